"""Where sites are planned: in front of every layer with weights and every product, and nowhere else."""

import timm
import torch
import torch.nn.functional as F
from torch import nn

from spikeswap.calibrate import activation_thresholds
from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.graph import prepare
from spikeswap.neurons import QCFS


class Net(nn.Module):
    """A first convolution, then `body` on its result, then a linear head."""

    def __init__(self, body, **modules):
        super().__init__()
        self.conv, self.body = nn.Conv2d(3, 4, 3, padding=1), body
        for name, module in modules.items():
            self.add_module(name, module)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        return self.head(self.body(self, self.conv(x)).mean((2, 3)))


def sites(model, size=8):
    """{name: (signed, what it follows)} of all sites of the network with sites="all"."""
    gm = insert_qcfs(model, sites="all", example_inputs=torch.randn(2, 3, size, size))
    found = {}
    for node in gm.graph.nodes:
        if node.op == "call_module" and isinstance(gm.get_submodule(node.target), QCFS):
            found[node.target] = gm.get_submodule(node.target).signed, str(node.args[0])
    return found


def test_one_site_where_several_layers_read_one_value():
    net = Net(
        lambda m, x: m.a(F.gelu(x)) + m.b(F.gelu(x)), a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 4, 1)
    )
    assert len(sites(net)) == 3  # each gelu is a call of its own
    net = Net(lambda m, x: m.a(x) + m.b(x), a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 4, 1))
    assert [read for _, read in sites(net).values()] == ["conv", "mean"]


def test_a_residual_sum_keeps_the_value_itself():
    net = Net(lambda m, x: x + m.a(x), a=nn.Conv2d(4, 4, 1)).eval()
    gm = prepare(net, example_inputs=torch.randn(2, 3, 8, 8), sites="all").graph
    add = next(n for n in gm.graph.nodes if n.op == "call_function" and "add" in str(n.target))
    assert [n.name for n in add.args] == ["conv", "a"]


def test_signs_come_from_the_operations():
    bodies = {
        "gelu": (lambda m, x: F.gelu(x), True),
        "softplus": (lambda m, x: F.softplus(x), False),
        "softmax": (lambda m, x: x.softmax(1), False),
        "square": (lambda m, x: x.square(), False),
        "batch_norm": (lambda m, x: m.norm(x), True),
    }
    for body, signed in bodies.values():
        net = Net(lambda m, x, b=body: m.a(b(m, x)), a=nn.Conv2d(4, 4, 1), norm=nn.BatchNorm2d(4))
        assert [s for s, _ in sites(net).values()] == [signed, True]


def test_views_and_parts_are_walked_through_to_one_site():
    """q, k and v are parts of one layer's result: one site after the layer, batch first."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.head = nn.Linear(6, 18), nn.Linear(6, 5)

        def forward(self, x):
            x = x.flatten(2).transpose(1, 2)
            qkv = self.qkv(x).reshape(x.shape[0], -1, 3, 2, 3).permute(2, 0, 3, 1, 4)
            q, k, v = qkv.unbind(0)
            scores = (q * 3**-0.5) @ k.transpose(-2, -1)
            return self.head((scores.softmax(-1) @ v).transpose(1, 2).flatten(2).mean(1))

    model = nn.Sequential(nn.Conv2d(3, 6, 4, 4), Attention())
    found = sites(model)
    assert [read for _, read in found.values()] == ["_0", "_1_qkv", "softmax", "mean"]
    assert [signed for signed, _ in found.values()] == [True, True, False, True]


def test_a_value_that_others_read_as_well_gets_its_site_further_on():
    """A view of a value feeds a layer and a sum: the sum is not quantised."""
    net = Net(lambda m, x: m.a(x.flip(2)) + x.flip(2), a=nn.Conv2d(4, 4, 1))
    found = sites(net)
    assert [read for _, read in found.values()] == ["conv", "mean"]
    net = Net(lambda m, x: m.both(x.flip(2)), both=nn.Sequential(nn.Conv2d(4, 4, 1)))
    net.body = lambda m, x: (lambda y: m.both(y) + y)(x.flip(2))
    assert [read for _, read in sites(net).values()] == ["flip", "mean"]


def test_what_reads_the_image_and_what_reads_spikes_needs_no_site():
    net = Net(lambda m, x: m.a(F.relu(x).flip(2)), a=nn.Conv2d(4, 4, 1))
    assert [read for _, read in sites(net).values()] == ["conv", "mean"]
    assert len(sites(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)))) == 1


def test_a_site_behind_a_max_pool_takes_over_the_threshold():
    net = Net(lambda m, x: m.a(F.max_pool2d(F.relu(x), 2)), a=nn.Conv2d(4, 4, 1))
    gm = insert_qcfs(
        net, sites="all", levels=3, threshold=0.7, example_inputs=torch.rand(2, 3, 8, 8)
    )
    found = [m for m in gm.modules() if isinstance(m, QCFS)]
    assert len(found) == 3 and found[1].threshold is found[0].threshold
    x = torch.randn(4, 3, 8, 8)
    first = torch.relu(net.conv(x))
    level = found[0](first)
    assert torch.equal(found[1](F.max_pool2d(level, 2)), F.max_pool2d(level, 2))


def test_gates_have_two_sites_and_activations_written_out_have_none():
    gate = Net(lambda m, x: m.a(x * m.b(x.mean((2, 3), keepdim=True)).sigmoid()),
               a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 4, 1))  # fmt: skip
    assert [read for _, read in sites(gate).values()] == [
        "conv",
        "mean",
        "sigmoid",
        "mul",
        "mean_1",
    ]
    silu = Net(lambda m, x: m.a(x * x.sigmoid()), a=nn.Conv2d(4, 4, 1))
    assert [read for _, read in sites(silu).values()] == ["mul", "mean"]
    square = Net(lambda m, x: m.a(x * x), a=nn.Conv2d(4, 4, 1))
    assert [read for _, read in sites(square).values()] == ["mul", "mean"]


def test_padding_with_a_number_ends_the_walk():
    net = Net(lambda m, x: m.a(F.pad(F.relu(x), (1, 1, 1, 1), value=0.5)), a=nn.Conv2d(4, 4, 3))
    assert [read for _, read in sites(net).values()] == ["conv", "pad", "mean"]
    net = Net(lambda m, x: m.a(F.pad(F.relu(x), (1, 1, 1, 1))), a=nn.Conv2d(4, 4, 3))
    assert [read for _, read in sites(net).values()] == ["conv", "mean"]


def test_a_network_without_sites_keeps_its_numbers_while_they_are_planned():
    model = timm.create_model("test_vit", num_classes=5).eval()
    images = torch.randn(2, 3, 160, 160)
    gm = prepare(model, example_inputs=images, sites="all").graph
    torch.testing.assert_close(gm(images), model(images), rtol=1e-5, atol=1e-5)


def test_attention_modules_are_written_out():
    """nn.MultiheadAttention, batch first and not, self and cross, causal and with a mask."""

    class Attends(nn.Module):
        def __init__(self, batch_first, **mask):
            super().__init__()
            self.embed, self.first, self.mask = nn.Conv2d(3, 8, 4, 4), batch_first, mask
            self.a = nn.MultiheadAttention(8, 2, batch_first=batch_first)
            self.register_buffer("added", torch.randn(4, 4))
            self.head = nn.Linear(8, 5)

        def forward(self, x):
            x = self.embed(x).flatten(2).transpose(1, 2)
            x = x if self.first else x.transpose(0, 1)
            mask = self.added if self.mask else None
            x = x + self.a(x, x, x, need_weights=False, attn_mask=mask)[0]
            return self.head(x.mean(1 if self.first else 0))

    images = torch.randn(2, 3, 8, 8)
    for batch_first in (True, False):
        for mask in ({}, {"mask": True}):
            model = Attends(batch_first, **mask).eval()
            gm = prepare(model, example_inputs=images, sites="all").graph
            names = [str(n.target) for n in gm.graph.nodes if n.op == "call_module"]
            assert {"a.q", "a.k", "a.v", "a.out"} <= set(names)
            torch.testing.assert_close(gm(images), model(images), rtol=1e-5, atol=1e-6)


def test_a_reshape_that_keeps_what_stands_before_the_batch_keeps_the_batch():
    """q, k and v stacked in front, heads folded into the batch, as in Segment Anything."""

    class Folded(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.qkv, self.head = (
                nn.Conv2d(3, 6, 4, 4),
                nn.Linear(6, 18),
                nn.Linear(6, 5),
            )

        def forward(self, x):
            x = self.embed(x).flatten(2).transpose(1, 2)
            b, n = x.shape[:2]
            qkv = self.qkv(x).reshape(b, n, 3, 2, -1).permute(2, 0, 3, 1, 4)
            q, k, v = qkv.reshape(3, b * 2, n, -1).unbind(0)
            x = ((q @ k.transpose(-2, -1)).softmax(-1) @ v).view(b, 2, n, -1).transpose(1, 2)
            return self.head(x.reshape(b, n, -1).mean(1))

    model, images = Folded().double().eval(), torch.randn(3, 3, 8, 8, dtype=torch.double)
    snn = convert_model(model, neuron="multi", calibration=[images], levels=8)
    quantised = insert_qcfs(
        model, 8, thresholds=activation_thresholds(model, [images], sites="all"), sites="all",
        example_inputs=images,
    )  # fmt: skip
    expected = quantised.eval()(images)
    torch.testing.assert_close(snn(images, timesteps=30)[-1], expected, rtol=0, atol=1e-12)
