"""Each trick of the tracer has a network that needs it, and none outlives the trace."""

import builtins
import contextlib
import math
import sys
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn
from torchvision.models import swin_transformer

from spikeswap.graph import UnconvertibleError, trace
from spikeswap.graph.capture import patching


class Head(nn.Module):
    """A convolution, whatever `body` does, and a head."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.body(F.relu(self.conv(x))).mean((2, 3)))


class WindowReverse(Head):
    """The official Swin's: int() of a quotient that the batch size is part of."""

    def body(self, x):
        windows = x.unflatten(2, (2, -1)).transpose(1, 2).flatten(0, 1)
        B = int(windows.shape[0] / (x.shape[2] * x.shape[3] / windows.shape[2] / windows.shape[3]))
        return windows.view(B, 2, *windows.shape[1:]).transpose(1, 2).flatten(2, 3)


class TensorOfSizes(Head):
    """An offset of the batch's own size, a constant expanded to it: one argument for each axis."""

    def body(self, x):
        ramp = torch.arange(8.0).view(1, 8, 1, 1).expand(x.shape[0], -1, -1, -1)
        return x + ramp + torch.zeros(x.shape[0], 1, x.shape[2], x.shape[3])


class TensorOfNumbers(Head):
    """Scores divided by the root of the head's width, as tensors."""

    def body(self, x):
        return x / torch.sqrt(torch.tensor(x.shape[1], dtype=x.dtype)) + torch.as_tensor(x.size(1))


class AsksForTensors(Head):
    """What einops does before all else."""

    def body(self, x):
        if not (isinstance(x, torch.Tensor) and torch.is_tensor(x.flatten(2))):
            raise TypeError("no tensor")
        assert isinstance(x.shape, tuple) and not isinstance(x, (int, tuple))
        return x


class Hidden(Head):
    """torchvision's Swin hides its window attention with fx.wrap."""

    def __init__(self):
        super().__init__()
        self.attention = swin_transformer.ShiftedWindowAttention(8, [4, 4], [2, 2], 2)

    def body(self, x):
        return self.attention(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


NEEDED_BY = {
    "int_sees_proxies": WindowReverse,
    "sizes_may_be_proxies": TensorOfSizes,
    "TensorsOfProxies": TensorOfNumbers,
    "isinstance_sees_values": AsksForTensors,
    "hidden_functions_are_followed": Hidden,
}


def follows(model, x) -> bool:
    """Whether a trace gives a graph of known functions that computes the same for other images."""
    graph = trace(model, example_inputs=x)
    others = torch.randn(3, *x.shape[1:])
    assert torch.allclose(graph(others), model(others), atol=1e-6)
    homes = {n.target.__module__ or "torch" for n in graph.graph.nodes if n.op == "call_function"}
    return not any("swin_transformer" in home for home in homes)


@pytest.mark.parametrize("trick", NEEDED_BY)
def test_each_trick_is_needed_by_a_network(trick, monkeypatch):
    model, x = NEEDED_BY[trick]().eval(), torch.randn(2, 3, 16, 16)
    assert follows(model, x)
    monkeypatch.setattr(patching, trick, lambda *spaces: contextlib.nullcontext())
    try:
        assert not follows(model, x)
    except UnconvertibleError:
        pass


def test_there_is_no_further_trick():
    tricks = {name for name in vars(patching) if callable(getattr(patching, name))}
    made_here = {n for n in tricks if getattr(patching, n).__module__ == patching.__name__}
    helpers = {"patched", "Whole", "_LikeInt", "_first_proxy", "_seeing", "_take_sizes"}
    assert made_here == {*NEEDED_BY, *helpers}


# -- nothing is left, nothing leaks --------------------------------------------------------------


def patched_things() -> list[dict]:
    this = sys.modules[__name__]
    places = (torch, torch.Tensor, math, builtins, swin_transformer, nn.Module, this)
    registry = fx._symbolic_trace._wrapped_fns_to_patch
    return [*(dict(vars(place)) for place in places), dict.fromkeys(registry)]


def identical(before: list[dict], after: list[dict]) -> bool:
    return all(
        old.keys() == new.keys() and all(old[key] is new[key] for key in old)
        for old, new in zip(before, after, strict=True)
    )


class Fails(Hidden):
    def body(self, x):
        int(super().body(x).shape[0] / 2)  # is planted when this is traced again
        raise self.error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_everything_is_put_back_after_a_failure(error):
    trace(Hidden())  # what is imported late is imported now
    before = patched_things()
    model = Fails()
    model.error = error("stop")
    with pytest.raises((UnconvertibleError, KeyboardInterrupt, SystemExit), match="stop"):
        trace(model, example_inputs=torch.randn(2, 3, 16, 16))
    assert identical(before, patched_things())
    assert follows(Hidden().eval(), torch.randn(2, 3, 16, 16)), "and the next trace works"


@pytest.mark.parametrize("network", NEEDED_BY.values())
def test_everything_is_put_back_after_a_trace(network):
    trace(network(), example_inputs=torch.randn(2, 3, 16, 16))
    before = patched_things()
    trace(network(), example_inputs=torch.randn(2, 3, 16, 16))
    assert identical(before, patched_things())


class Waits(Head):
    """Lets another thread work in the middle of its trace."""

    def body(self, x):
        self.inside.set()
        assert self.go_on.wait(60)
        return x

    def __deepcopy__(self, memo):
        return self


def test_other_threads_compute_and_symbolic_trace_as_ever():
    waits = Waits().eval()
    waits.inside, waits.go_on = threading.Event(), threading.Event()
    tracing = threading.Thread(target=trace, args=(waits,))
    tracing.start()
    try:
        assert waits.inside.wait(60)
        x = torch.randn(2, 3, 16, 16)
        for network in NEEDED_BY.values():
            model = network().eval()
            assert model(x).shape == (2, 5)
            assert isinstance(model.conv.weight, nn.Parameter)
        assert torch.equal(torch.zeros(2, 3), torch.tensor([[0.0] * 3] * 2))
        seen = {n.op for n in fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 4, 1))).graph.nodes}
        assert seen == {"placeholder", "call_module", "output"}
    finally:
        waits.go_on.set()
        tracing.join(60)


def test_threads_trace_one_after_the_other():
    x = torch.randn(2, 3, 16, 16)
    models = [network().eval() for network in NEEDED_BY.values()] * 2
    graphs = [None] * len(models)

    def work(i):
        graphs[i] = trace(models[i], example_inputs=x)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(models))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for model, graph in zip(models, graphs, strict=True):
        assert torch.allclose(graph(x), model(x), atol=1e-6)
