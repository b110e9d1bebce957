"""The table that all passes read: what is linear, what is not, and what is refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikeswap.graph import Kind, classify, trace
from spikeswap.graph.layout import channel_axis
from spikeswap.graph.operations import relu_bound


class One(nn.Module):
    def __init__(self, operation):
        super().__init__()
        self.operation = operation

    def forward(self, x):
        return self.operation(x)


def kind_of(operation):
    module = isinstance(operation, nn.Module)
    graph = trace(One(operation), leaf_modules=(type(operation),) if module else ())
    node = next(n for n in graph.graph.nodes if n.op.startswith("call"))
    return classify(graph, node)[0]


@pytest.mark.parametrize(
    "module",
    [
        nn.LeakyReLU(),
        nn.PReLU(),
        nn.RReLU(),
        nn.GELU(),
        nn.SiLU(),
        nn.Mish(),
        nn.ELU(),
        nn.CELU(),
        nn.SELU(),
        nn.Hardswish(),
        nn.Tanh(),
        nn.Softplus(),
        nn.Hardtanh(-1, 1),
        nn.GLU(),
        nn.Threshold(0.1, 0),
        nn.LSTM(3, 3),
        nn.GRU(3, 3),
        nn.LSTMCell(3, 3),
        nn.MultiheadAttention(4, 2),
        nn.TransformerEncoderLayer(4, 2),
    ],
    ids=lambda m: type(m).__name__,
)
def test_what_is_no_relu_is_refused(module):
    graph = trace(One(module), leaf_modules=(type(module),))
    node = next(n for n in graph.graph.nodes if n.op.startswith("call"))
    kind, remedy = classify(graph, node)
    assert kind is Kind.REFUSED and remedy


@pytest.mark.parametrize(
    "function",
    [
        F.leaky_relu,
        F.gelu,
        F.silu,
        F.elu,
        F.selu,
        F.mish,
        F.softplus,
        torch.tanh,
        F.hardswish,
        torch.sign,
    ],
)
def test_functions_that_are_no_relu_are_refused(function):
    assert kind_of(function) is Kind.REFUSED


LINEAR = {
    "reshape": lambda x: x.reshape(2, 3, 16),
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "flatten": lambda x: torch.flatten(x, 1),
    "roll": lambda x: torch.roll(x, 1, 2),
    "mean": lambda x: x.mean((2, 3)),
    "sum": lambda x: x.sum(1),
    "neg": lambda x: -x,
    "getitem": lambda x: x[:, 1:],
    "avg_pool": lambda x: F.avg_pool2d(x, 2),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, 1),
    "pad": lambda x: F.pad(x, (1, 1)),
    "interpolate": lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"),
    "unfold": lambda x: F.unfold(x, 3),
    "pixel_shuffle": lambda x: F.pixel_unshuffle(x, 2),
    "cumsum": lambda x: x.cumsum(2),
    "Conv2d": nn.Conv2d(3, 2, 3, bias=False),
    "Linear": nn.Linear(4, 2, bias=False),
    "ConvTranspose2d": nn.ConvTranspose2d(3, 2, 3, bias=False),
    "AvgPool2d": nn.AvgPool2d(2),
    "ChannelShuffle": nn.ChannelShuffle(3),
    "Upsample": nn.Upsample(scale_factor=2),
    "ReflectionPad2d": nn.ReflectionPad2d(1),
}
NONLINEAR = {
    "softmax": lambda x: x.softmax(-1),
    "max_pool": lambda x: F.max_pool2d(x, 2),
    "adaptive_max": lambda x: F.adaptive_max_pool2d(x, 2),
    "amax": lambda x: x.amax((2, 3)),
    "layer_norm": lambda x: F.layer_norm(x, (4,)),
    "sigmoid": lambda x: x.sigmoid(),
    "square": lambda x: x**2,
    "std": lambda x: x.std((2, 3)),
    "MaxPool2d": nn.MaxPool2d(2),
    "LayerNorm": nn.LayerNorm(4),
    "GroupNorm": nn.GroupNorm(3, 3),
    "Softmax": nn.Softmax(-1),
    "Hardsigmoid": nn.Hardsigmoid(),
    "InstanceNorm2d": nn.InstanceNorm2d(3),
    "LocalResponseNorm": nn.LocalResponseNorm(3),
}


@pytest.mark.parametrize("name", LINEAR)
def test_what_is_called_linear_is_linear(name):
    """f(a x + b y) = a f(x) + b f(y): else spikes of single steps must not pass through it."""
    f = LINEAR[name]
    assert kind_of(f) is Kind.LINEAR
    f = f.double() if isinstance(f, nn.Module) else f
    x, y = torch.randn(2, 2, 3, 4, 4, dtype=torch.double)
    torch.testing.assert_close(f(2 * x - 3 * y), 2 * f(x) - 3 * f(y))


@pytest.mark.parametrize("name", NONLINEAR)
def test_what_is_called_nonlinear_is_not_linear(name):
    f = NONLINEAR[name]
    assert kind_of(f) is Kind.NONLINEAR
    f = f.double() if isinstance(f, nn.Module) else f
    x, y = torch.randn(2, 2, 3, 4, 4, dtype=torch.double)
    assert (f(2 * x - 3 * y) - 2 * f(x) + 3 * f(y)).abs().max() > 1e-3


@pytest.mark.parametrize(
    "module, bound",
    [
        (nn.ReLU(), float("inf")),
        (nn.ReLU6(), 6.0),
        (nn.Hardtanh(0, 3), 3.0),
        (nn.Hardtanh(-1, 1), None),
        (nn.LeakyReLU(), None),
        (nn.PReLU(), None),
        (nn.Identity(), None),
    ],
)
def test_bound_of_a_relu(module, bound):
    assert relu_bound(module) == bound


def test_a_subclass_of_relu_is_not_taken_for_it():
    class Shifted(nn.ReLU):
        def forward(self, x):
            return super().forward(x) + 1

    assert relu_bound(Shifted()) is None


class Layout(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.pool = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.MaxPool2d(2)
        self.linear, self.act = nn.Linear(4, 4), nn.ReLU()

    def forward(self, x):
        a = self.act(self.norm(self.conv(x)))
        b = F.relu(self.pool(a) * 2 + 1)
        c = F.relu(self.linear(b.flatten(2).transpose(1, 2)))
        d = F.relu(c @ c.transpose(1, 2))
        return d


def test_channel_axis_is_read_off_the_graph():
    graph = trace(Layout())
    relus = [n for n in graph.graph.nodes if n.target == "act" or n.target is F.relu]
    assert [channel_axis(graph, n.args[0]) for n in relus] == [1, 1, -1, None]
