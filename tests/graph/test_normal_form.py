"""Normal form: every activation a module of its own, in-place operations made plain."""

import pytest
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import nn

from spikeswap.graph import UnconvertibleError, normal_form, trace
from spikeswap.graph.analysis import check_convertible
from spikeswap.graph.normal_form import (
    functions_to_modules,
    in_place_to_plain,
    split_fused_norms,
    split_shared_activations,
    weight_functions_to_modules,
)


class Net(nn.Module):
    def __init__(self, forward, **modules):
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.relu = nn.ReLU()
        for name, module in modules.items():
            self.add_module(name, module)
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


def images():
    return torch.randn(2, 3, 6, 6)


def modules_called(graph, cls):
    return [
        graph.get_submodule(n.target)
        for n in graph.graph.nodes
        if n.op == "call_module" and isinstance(graph.get_submodule(n.target), cls)
    ]


SPELLINGS = {
    "F.relu": lambda net, x: F.relu(net.conv(x)),
    "F.relu(inplace)": lambda net, x: F.relu(net.conv(x), inplace=True),
    "F.relu(keyword)": lambda net, x: F.relu(input=net.conv(x)),
    "torch.relu": lambda net, x: torch.relu(net.conv(x)),
    "torch.relu_": lambda net, x: torch.relu_(net.conv(x)),
    "x.relu()": lambda net, x: net.conv(x).relu(),
    "x.relu_()": lambda net, x: net.conv(x).relu_(),
    "clamp(min=0)": lambda net, x: net.conv(x).clamp(min=0),
    "clamp_min": lambda net, x: torch.clamp_min(net.conv(x), 0),
    "clip(0, inf)": lambda net, x: torch.clip(net.conv(x), 0, float("inf")),
}
CLIPPED = {
    "F.relu6": (6.0, lambda net, x: F.relu6(net.conv(x))),
    "clamp(0, 6)": (6.0, lambda net, x: torch.clamp(net.conv(x), 0, 6)),
    "x.clamp(keywords)": (0.5, lambda net, x: net.conv(x).clamp(min=0, max=0.5)),
    "x.clamp_": (0.5, lambda net, x: net.conv(x).clamp_(0, 0.5)),
    "F.hardtanh": (0.5, lambda net, x: F.hardtanh(net.conv(x), 0.0, 0.5)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_relu_becomes_a_module(spelling):
    net, x = Net(SPELLINGS[spelling]), images()
    graph = normal_form(net)
    assert len(modules_called(graph, nn.ReLU)) == 1
    assert torch.equal(graph(x.clone()), net(x.clone()))


@pytest.mark.parametrize("spelling", CLIPPED)
def test_clipped_relus_keep_their_bound(spelling):
    bound, forward = CLIPPED[spelling]
    net, x = Net(forward), images()
    graph = normal_form(net)
    (site,) = modules_called(graph, nn.Hardtanh)
    assert (site.min_val, site.max_val) == (0, bound)
    assert torch.equal(graph(x), net(x))


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: torch.clamp(net.conv(x), -1, 1),
        lambda net, x: torch.clamp(net.conv(x), max=1),
        lambda net, x: net.conv(x).clamp(min=0.1),
        lambda net, x: F.hardtanh(net.conv(x)),
    ],
)
def test_a_clamp_that_is_no_relu_is_not_taken_for_one(forward):
    graph = normal_form(Net(forward))
    assert not modules_called(graph, (nn.ReLU, nn.Hardtanh))


def test_nothing_to_do_keeps_the_graph():
    net = Net(lambda net, x: net.relu(net.conv(x)))
    graph = trace(net)
    nodes = list(graph.graph.nodes)
    for step in (
        in_place_to_plain,
        functions_to_modules,
        split_fused_norms,
        weight_functions_to_modules,
        lambda g: split_shared_activations(g, (nn.ReLU,)),
    ):
        assert step(graph) == 0
    assert list(graph.graph.nodes) == nodes


def test_a_shared_activation_gets_one_module_for_each_call():
    net, x = Net(lambda net, x: net.relu(net.other(net.relu(net.conv(x))))), images()
    graph = normal_form(net)
    sites = modules_called(graph, nn.ReLU)
    assert len(sites) == 2 and sites[0] is not sites[1]
    assert torch.equal(graph(x), net(x))


def in_place_relu_read_later(net, x):
    y = net.conv(x)
    z = net.relu(y)
    return net.other(z) + y


def in_place_function_read_later(net, x):
    y = net.conv(x)
    F.relu(y, inplace=True)
    return y + net.other(y)


def in_place_method_read_later(net, x):
    y = net.conv(x)
    y.relu_()
    y.mul_(0.5).sub_(0.1)
    return y


def augmented_assignments(net, x):
    y = net.relu(net.conv(x))
    y += net.other(x)
    y *= 0.5
    y -= 1
    y /= 3
    return y


def augmented_assignment_of_an_alias(net, x):
    y = net.relu(net.conv(x))
    z = y
    y += x
    return y + 2 * z


def parts_that_are_assigned(net, x):
    y = net.conv(x)
    y[:, :2] = 0
    z = y * 2
    y[:, 1:, 1] = net.other(x)[:, 1:, 0]
    return y + z


def parts_that_are_changed(net, x):
    y = net.conv(x)
    y[:, :2].relu_()
    z = y * 2
    y[:, 2:] += x[:, 2:]
    y[:, 0][:, 1:].mul_(3)
    y[..., 0].zero_()
    return y + z


def assertions_beside_changes(net, x):
    torch._assert(x.shape[1] == 3, "channels")
    y = net.conv(x)
    y.relu_()
    return net.other(y)


@pytest.mark.parametrize(
    "forward",
    [
        parts_that_are_assigned,
        parts_that_are_changed,
        assertions_beside_changes,
        in_place_relu_read_later,
        in_place_function_read_later,
        in_place_method_read_later,
        augmented_assignments,
        augmented_assignment_of_an_alias,
    ],
)
def test_later_readers_of_a_changed_tensor_see_the_change(forward):
    net, x = Net(forward, relu=nn.ReLU(inplace=True)), images()
    graph = normal_form(net)
    with torch.no_grad():
        assert torch.equal(graph(x), net(x))
    assert not any(getattr(m, "inplace", False) for m in modules_called(graph, nn.Module))
    with torch.no_grad():
        copy = x.clone()
        graph(x)
    assert torch.equal(x, copy), "the images are not changed"


def changed_through_a_slice(net, x):
    y = net.conv(x)
    a, _ = y.split([1, 2], 1)
    a.relu_()
    return y


def changed_under_a_view(net, x):
    y = net.conv(x)
    flat = y.view(y.shape[0], -1)
    net.relu(y)
    return flat


def changed_under_a_view_of_a_view(net, x):
    y = net.conv(x)
    old = y.flatten(2)
    y[:, :2].relu_()
    return old.view_as(y) + x.mean()


@pytest.mark.parametrize(
    "forward",
    [changed_through_a_slice, changed_under_a_view, changed_under_a_view_of_a_view],
)
def test_a_change_that_shows_through_a_view_is_right_or_refused(forward):
    net, x = Net(forward, relu=nn.ReLU(inplace=True)), images()
    graph = normal_form(net, example_inputs=x)
    if graph.meta.get("offences"):
        with pytest.raises(UnconvertibleError, match="place"):
            check_convertible(graph)
        return
    with torch.no_grad():
        assert torch.equal(graph(x), net(x))


@pytest.mark.parametrize("apply_act", [True, False])
def test_fused_norms_are_split(apply_act):
    net = Net(lambda net, x: net.fused(net.conv(x)), fused=BatchNormAct2d(3, apply_act=apply_act))
    nn.init.normal_(net.fused.weight)
    nn.init.normal_(net.fused.bias)
    net.fused.running_mean.normal_()
    net.fused.running_var.uniform_(0.5, 2)
    net.eval()
    x = images()
    graph = normal_form(net).eval()
    assert len(modules_called(graph, nn.ReLU)) == int(apply_act)
    assert [type(m) for m in modules_called(graph, nn.BatchNorm2d)] == [nn.BatchNorm2d]
    torch.testing.assert_close(graph(x), net(x))


def test_normal_form_of_a_normal_form_is_the_same():
    net = Net(lambda net, x: net.relu(net.fused(net.relu(net.conv(x)))), fused=BatchNormAct2d(3))
    once = normal_form(net)
    twice = normal_form(once)
    assert len(modules_called(twice, nn.ReLU)) == len(modules_called(once, nn.ReLU)) == 3


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: F.conv2d(x, net.conv.weight, net.conv.bias, 2, 1),
        lambda net, x: F.conv2d(x, net.conv.weight, padding="same", dilation=2),
        lambda net, x: F.conv2d(input=x, weight=net.conv.weight[:, :1], bias=None, groups=3),
        lambda net, x: F.linear(x, net.matrix.weight, net.matrix.bias),
        lambda net, x: F.batch_norm(
            x,
            net.norm.running_mean,
            net.norm.running_var,
            net.norm.weight,
            net.norm.bias,
            False,
            0.1,
            1e-3,
        ),
    ],
)
def test_functions_with_constant_weights_become_modules_or_stay_right(forward):
    net = Net(forward, matrix=nn.Linear(6, 4), norm=nn.BatchNorm2d(3)).eval()
    net.norm.running_mean.normal_()
    net.norm.running_var.uniform_(0.5, 2)
    x = images()
    graph = normal_form(net)
    weight_functions_to_modules(graph)
    torch.testing.assert_close(graph(x), net(x))


def test_dropout_functions_become_modules_that_are_off():
    net = Net(lambda net, x: F.dropout(net.conv(x), 0.5, net.training)).train()
    graph = normal_form(net).eval()
    assert len(modules_called(graph, nn.Dropout)) == 1
    x = images()
    assert torch.equal(graph(x), net.conv(x))


def test_modules_called_with_keywords_are_understood():
    net, x = Net(lambda net, x: net.relu(input=net.conv(input=x))), images()
    graph = normal_form(net)
    assert torch.equal(graph(x), net(x))
    node = next(n for n in graph.graph.nodes if n.target == "relu")
    assert node.args and not node.kwargs
