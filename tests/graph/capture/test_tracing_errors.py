"""Failures in a model are told as what they are: sizes of images are one of many reasons."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikeswap.graph import UnconvertibleError, trace
from spikeswap.graph.image_size import is_about_shapes

x, y = torch.randn(2, 3, 8, 8), torch.randn(2, 5, 7)
MISFITS = {
    "conv2d": lambda: nn.Conv2d(4, 4, 3)(x),
    "conv2d of a row": lambda: nn.Conv2d(3, 4, 3)(y[0, 0]),
    "conv2d, kernel too large": lambda: nn.Conv2d(3, 4, 9)(x),
    "linear": lambda: nn.Linear(3, 4)(x),
    "add": lambda: x + x[..., :3],
    "matmul": lambda: y @ y,
    "bmm": lambda: torch.bmm(y, y),
    "view": lambda: x.view(2, 7, -1),
    "view of another number": lambda: x.view(2, 7),
    "reshape": lambda: x.reshape(5, 5),
    "expand": lambda: x.expand(2, 4, 8, 8),
    "cat": lambda: torch.cat([x, x[:, :, :3]], 1),
    "stack": lambda: torch.stack([x, y]),
    "split": lambda: y.split([3, 3], 1),
    "unflatten": lambda: y.unflatten(1, (2, 2)),
    "permute": lambda: x.permute(0, 2, 1),
    "transpose": lambda: y.transpose(1, 3),
    "max_pool2d": lambda: F.max_pool2d(x, 9),
    "avg_pool2d": lambda: F.avg_pool2d(y[0, 0], 2),
    "batch_norm": lambda: nn.BatchNorm2d(4)(x),
    "batch_norm of rows": lambda: nn.BatchNorm2d(3)(y),
    "layer_norm": lambda: nn.LayerNorm(4)(x),
    "group_norm": lambda: nn.GroupNorm(2, 4)(x),
    "einsum": lambda: torch.einsum("bij,bjk->bik", y, y),
    "index": lambda: x[:, 3],
    "narrow": lambda: x.narrow(2, 6, 4),
    "pixel_shuffle": lambda: F.pixel_shuffle(x, 2),
    "reflection pad": lambda: F.pad(x, (8, 8, 0, 0), mode="reflect"),
    "softmax": lambda: x.softmax(4),
    "unpool": lambda: F.fold(y, (4, 4), 2),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_about_shapes(name):
    with pytest.raises((RuntimeError, ValueError, IndexError)) as caught:
        MISFITS[name]()
    assert is_about_shapes(caught.value)


OTHERS = {
    "dtype": lambda: nn.Linear(8, 4).double()(x),
    "product of dtypes": lambda: y.double() @ y.transpose(1, 2),
    "gradient": lambda: x.sum().backward(),
    "out of memory": lambda: (_ for _ in ()).throw(
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB of total size 8 GiB")
    ),
    "another device": lambda: x + torch.empty(2, 3, 8, 8, device="meta"),
    "the user's own": lambda: (_ for _ in ()).throw(RuntimeError("the licence is missing")),
    "a name": lambda: x.nothing,
    "a type": lambda: F.relu(None),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_fails_otherwise_is_not(name):
    with pytest.raises((RuntimeError, AttributeError, TypeError)) as caught:
        OTHERS[name]()
    assert not is_about_shapes(caught.value)


class Body(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.conv, self.body = nn.Conv2d(3, 4, 3), body

    def forward(self, x):
        return self.body(self, self.conv(x))


def fails(self, x):
    raise RuntimeError("the licence is missing")


@pytest.mark.parametrize(
    ("body", "words"),
    [(lambda s, x: x.sum().backward(), "does not require grad"), (fails, "licence is missing")],
    ids=["gradient", "own"],
)
def test_a_trace_tells_the_reason_and_asks_for_no_other_size(body, words):
    with pytest.raises(UnconvertibleError) as caught:
        trace(Body(body), example_inputs=torch.randn(2, 3, 8, 8))
    (offence,) = caught.value.offences
    assert words in offence.operation and offence.source[0] == __file__
    assert "do not fit" not in str(offence) and "example_inputs" not in offence.remedy


def test_an_assertion_about_the_size_does():
    def body(self, x):
        assert x.shape[2] == 30, f"made for 32 x 32, got {x.shape[2]}"
        return x

    with pytest.raises(UnconvertibleError, match="made for 32 x 32"):
        trace(Body(body), example_inputs=torch.randn(2, 3, 8, 8))
