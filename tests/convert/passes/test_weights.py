"""Every call of a layer gets a plain weight and a bias of its own."""

import pytest
import torch
from torch import nn

from spikeswap.convert.passes.weights import bake_reparametrisations, split_shared_layers


def conv():
    return nn.Conv2d(3, 3, 3, padding=1)


REPARAMETRISED = {
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(conv()),
    "weight norm, old": lambda: nn.utils.weight_norm(conv()),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(conv()),
    "spectral norm, old": lambda: nn.utils.spectral_norm(conv()),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize("case", REPARAMETRISED)
def test_reparametrisations_become_plain_weights(case, traced, images):
    model = nn.Sequential(REPARAMETRISED[case](), nn.BatchNorm2d(3), nn.ReLU()).double().eval()
    with torch.no_grad():
        expected = model(images)
    graph = traced(model)
    assert bake_reparametrisations(graph) == 1
    layer = graph.get_submodule("0")
    assert set(dict(layer.named_parameters())) == {"weight", "bias"}
    assert not layer._forward_pre_hooks
    torch.testing.assert_close(graph(images), expected)


class Shared(nn.Module):
    """One convolution and one norm, called at three places."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = conv(), nn.BatchNorm2d(3)

    def forward(self, x):
        for _ in range(3):
            x = self.norm(self.conv(x))
        return x


def test_shared_layers_get_a_module_for_each_call(traced, images):
    graph = traced(Shared())
    assert split_shared_layers(graph) == 4
    called = [graph.get_submodule(n.target) for n in graph.graph.nodes if n.op == "call_module"]
    assert len({id(m) for m in called}) == 6
    convs = [m for m in called if isinstance(m, nn.Conv2d)]
    assert all(m.weight is convs[0].weight for m in convs), "weights stay shared"
    convs[1].bias = None
    assert convs[0].bias is not None and convs[2].bias is not None


def test_nothing_to_do_changes_nothing(traced):
    graph = traced(nn.Sequential(conv(), nn.BatchNorm2d(3), nn.ReLU()))
    before = list(graph.graph.nodes)
    assert bake_reparametrisations(graph) == split_shared_layers(graph) == 0
    assert list(graph.graph.nodes) == before


def test_numbers_are_kept(traced, images, random_norms):
    model = random_norms(Shared())
    graph = traced(model)
    split_shared_layers(graph)
    assert torch.equal(graph(images), model(images))
