"""Classes of modules in the table: each is the row of the function that it computes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikeswap.neurons import QCFS, SpikeMask
from spikeswap.ops import TABLE, UNKNOWN, Kind, module_arguments, module_operation, relu_bound
from spikeswap.ops.modules import MODULES

X = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SAME_AS = [
    (nn.Flatten(1, 2), lambda x, **k: torch.flatten(x, **k)),
    (nn.Unflatten(1, (2, 2)), lambda x, dim, unflattened_size: x.unflatten(dim, unflattened_size)),
    (nn.Softmax(1), lambda x, **k: F.softmax(x, **k)),
    (nn.LogSoftmax(-1), lambda x, **k: F.log_softmax(x, **k)),
    (nn.GLU(1), lambda x, **k: F.glu(x, **k)),
    (nn.LayerNorm((6, 8)).double(), lambda x, **k: F.layer_norm(x, **k)),
    (nn.Identity(), lambda x: x),
    (nn.PixelShuffle(2), lambda x: F.pixel_shuffle(x, 2)),
    (nn.MaxPool2d(2), lambda x: F.max_pool2d(x, 2)),
]


@pytest.mark.parametrize("module, function", SAME_AS, ids=lambda m: type(m).__name__)
def test_a_module_computes_its_row_with_its_own_arguments(module, function):
    torch.testing.assert_close(module(X), function(X, **module_arguments(module)))


def test_every_class_names_a_row():
    assert {name.split()[0] for name, _ in MODULES} <= TABLE.keys()


@pytest.mark.parametrize(
    "module",
    [
        nn.LeakyReLU(), nn.PReLU(), nn.RReLU(), nn.GELU(), nn.SiLU(), nn.Mish(), nn.ELU(), nn.CELU(),
        nn.SELU(), nn.Hardswish(), nn.Tanh(), nn.Softplus(), nn.Hardtanh(-1, 1), nn.GLU(),
        nn.Threshold(0.1, 0), nn.LSTM(3, 3), nn.GRU(3, 3), nn.LSTMCell(3, 3),
        nn.MultiheadAttention(4, 2), nn.TransformerEncoderLayer(4, 2),
    ],
    ids=lambda m: type(m).__name__,
)  # fmt: skip
def test_what_is_no_relu_has_a_remedy(module):
    row = module_operation(module)
    assert row.kind in (Kind.SMOOTH, Kind.REFUSED) and row.remedy
    assert module_operation(module, user_leaf=True).kind is Kind.NONLINEAR


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


def test_a_subclass_of_relu_counts_as_one_while_it_computes_one():
    class Named(nn.ReLU):
        pass

    class Shifted(nn.ReLU):
        def forward(self, x):
            return super().forward(x) + 1

    assert relu_bound(Named()) == float("inf")
    assert relu_bound(Shifted()) is None and module_operation(Shifted()) is UNKNOWN


def test_our_own_units_have_rows():
    assert module_operation(QCFS()).kind is Kind.SITE
    assert module_operation(SpikeMask(0.5)).kind is Kind.MASK
