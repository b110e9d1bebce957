"""Questions about tensors that control flow asks: answered, and gone from the graph."""

import collections
import contextlib
import math

import numpy as np
import pytest
import torch
from torch import nn

from spikeswap.graph import UnconvertibleError, trace

floor = math.floor.__call__  # hidden from fx, as in a file that it does not look into
Pair = collections.namedtuple("Pair", "first second")


class Net(nn.Module):
    """Two blocks: in the second, what is asked of x comes after sizes that were read."""

    def __init__(self, body):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.tables = {4: 2.0, 3: 1.0}
        self.body = body

    def forward(self, x):
        x = self.first(x).reshape(x.shape[0], 8, -1, x.shape[3])
        return self.second(self.body(self, x)).mean((2, 3))


def yes(answer, x):
    return x * 2 if answer else x.flatten()


QUESTIONS = {
    "is_cuda": lambda s, x: yes(not x.is_cuda, x),
    "device": lambda s, x: yes(x.device == torch.device("cpu"), x),
    "type of the device": lambda s, x: yes(x.device.type == "cpu" and x.device.type in "cpu", x),
    "dtype": lambda s, x: yes(x.dtype == torch.float32 and x.dtype is not None, x),
    "one of several dtypes": lambda s, x: yes(x.dtype in (torch.float16, torch.float32), x),
    "attribute of a dtype": lambda s, x: yes(
        x.dtype.is_floating_point and x.dtype.itemsize == 4, x
    ),
    "is_floating_point": lambda s, x: yes(x.is_floating_point(), x),
    "torch.is_floating_point": lambda s, x: yes(torch.is_floating_point(x), x),
    "is_contiguous": lambda s, x: yes(x.is_contiguous(), x),
    "requires_grad": lambda s, x: yes(not x.requires_grad, x),
    "isinstance": lambda s, x: yes(isinstance(x, torch.Tensor), x),
    "not isinstance": lambda s, x: yes(not isinstance(x, (tuple, list, int, nn.Parameter)), x),
    "is_tensor": lambda s, x: yes(torch.is_tensor(x), x),
    "a parameter": lambda s, x: yes(isinstance(s.first.weight, nn.Parameter), x),
    "type of a shape": lambda s, x: yes(isinstance(x.shape, (tuple, list)), x),
    "hasattr": lambda s, x: yes(hasattr(x, "shape") and not hasattr(x, "tensors"), x),
    "getattr": lambda s, x: yes(getattr(x, "mask", None) is None, x),
    "rank as a key": lambda s, x: x * s.tables[x.ndim],
    "parts": lambda s, x: yes(len(x.split(4, 1)) == 2, sum(list(x.split(4, 1))).repeat(1, 2, 1, 1)),
    "unpacked": lambda s, x: (lambda a, *b: torch.cat([a, *b], 1))(*x.chunk(2, 1)),
    "attributes of a maximum": lambda s, x: x - x.max(1, keepdim=True).values,
    "a named tuple": lambda s, x: x + Pair(x, x * 2).second,
}


NUMBERS = {  # the size of the image becomes one
    "int": lambda s, x: x * int(x.shape[2]),
    "float": lambda s, x: x * float(x.shape[2]),
    "round": lambda s, x: x * round(x.shape[2] / 3),
    "floor": lambda s, x: x * floor(x.shape[2] / 3),
    "root": lambda s, x: x.flatten(2).unflatten(2, (int(np.sqrt(x[0, 0].numel())), -1)),
    "product": lambda s, x: x / np.prod(x.shape[2:]),
    "range": lambda s, x: torch.cat([x[..., i : i + 1] * i for i in range(x.shape[3])], 3),
    "largest": lambda s, x: x / max(x.shape[2:]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_size_that_becomes_a_number_is_noted(name):
    model, x = Net(NUMBERS[name]).eval(), torch.randn(2, 3, 8, 8)
    graph = trace(model, example_inputs=x)
    assert graph.meta["fixed_image_size"]
    for images in (x, torch.randn(3, 3, 8, 8)):
        assert torch.equal(graph(images), model(images))


def test_a_number_of_weights_is_one():
    model, x = (
        Net(lambda s, x: x * s.first.weight.sum().item() + s.first.bias.tolist()[0]),
        torch.randn(2, 3, 8, 8),
    )
    graph = trace(model.eval(), example_inputs=x)
    assert torch.equal(graph(x), model(x)) and not graph.meta["fixed_image_size"]
    with pytest.raises(UnconvertibleError, match="values of a tensor"):
        trace(Net(lambda s, x: x * x.mean().item()), example_inputs=x)


def test_a_graph_of_ours_is_traced_again_without_a_size():
    graph = trace(
        Net(lambda s, x: x * math.floor(x.shape[2] / 3)), example_inputs=torch.randn(2, 3, 8, 8)
    )
    again = trace(graph)
    assert not graph.meta["fixed_image_size"] and not again.meta["fixed_image_size"]
    x = torch.randn(2, 3, 12, 12)
    assert torch.equal(again(x), graph(x))


@pytest.mark.parametrize("name", QUESTIONS)
def test_it_is_answered(name):
    torch.manual_seed(0)
    model, x = (
        Net(QUESTIONS[name]).eval().requires_grad_(name == "a parameter"),
        torch.randn(2, 3, 8, 8),
    )
    for example in (x, None):
        graph = trace(model, example_inputs=example)
        assert not graph.meta["fixed_image_size"]
        for images in (x, torch.randn(3, 3, 12, 12)):
            assert torch.equal(graph(images), model(images))


@pytest.mark.parametrize("name", ["is_cuda", "dtype", "is_contiguous", "isinstance", "hasattr"])
def test_no_question_stays_in_the_graph(name):
    asked = trace(Net(QUESTIONS[name]), example_inputs=torch.randn(2, 3, 8, 8))
    plain = trace(Net(lambda s, x: x * 2), example_inputs=torch.randn(2, 3, 8, 8))
    assert [n.target for n in asked.graph.nodes] == [n.target for n in plain.graph.nodes]


def test_the_device_of_an_autocast():
    def body(s, x):
        with torch.autocast(x.device.type, enabled=False):
            return x * 2

    model, x = Net(body).eval(), torch.randn(2, 3, 8, 8)
    assert torch.equal(trace(model, example_inputs=x)(x), model(x))


def test_what_a_tensor_has_not_is_told_by_its_name():
    with pytest.raises(UnconvertibleError, match="no attribute 'tensors'"):
        trace(Net(lambda s, x: x.tensors), example_inputs=torch.randn(2, 3, 8, 8))


def test_torch_never_takes_a_proxy_for_a_tensor():
    """Its own code would read memory that is none."""
    seen = []

    def body(s, x):
        seen.append(x)
        for work in (lambda: torch.zeros(2)[x], lambda: torch.ones(2).index_add_(0, x, x)):
            with contextlib.suppress(Exception):
                work()
        return x

    trace(Net(body), example_inputs=torch.randn(2, 3, 8, 8))
    assert seen and not any(isinstance(x, torch.Tensor) for x in seen)


class Parts(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        return self.kind(x * x, x.mean(1))


OUTPUTS = {
    "tuple": (lambda *parts: parts, lambda out: out[0]),
    "dict": (lambda *parts: dict(zip("ab", parts, strict=True)), lambda out: out["a"]),
    "named tuple": (Pair, lambda out: out.first),
    "unpacked": (Pair, lambda out: (lambda a, b: a)(*out)),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_leaf_may_give_several_tensors(name):
    kind, take = OUTPUTS[name]
    model = Net(lambda s, x: take(s.leaf(x))).eval()
    model.leaf = Parts(kind)
    x = torch.randn(2, 3, 8, 8)
    graph = trace(model, leaf_modules=["leaf"], example_inputs=x)
    assert torch.equal(graph(x), model(x))
    leaf = next(n for n in graph.graph.nodes if n.target == "leaf")
    assert "shape" not in leaf.meta
    assert leaf.meta["shapes"] == kind((2, 8, 8, 8), (2, 8, 8))
    (part,) = leaf.users if name != "unpacked" else list(leaf.users)[:1]
    assert part.args[1] in (0, "a") and part.meta["shape"] == (2, 8, 8, 8)


def test_max_pool_with_indices_has_two_shapes():
    model = Net(lambda s, x: s.pool(x)[0]).eval()
    model.pool = nn.MaxPool2d(2, return_indices=True)
    graph = trace(model, example_inputs=torch.randn(2, 3, 8, 8))
    pool = next(n for n in graph.graph.nodes if n.target == "pool")
    assert pool.meta["shapes"] == ((2, 8, 4, 4), (2, 8, 4, 4))
