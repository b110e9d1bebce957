"""Names in the graph, modules from outside the tree, and attempts that leave nothing behind."""

import functools
import gc
import keyword
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikeswap import load
from spikeswap.convert import UnconvertibleError, convert_model, insert_qcfs
from spikeswap.graph import trace


class Keyed(nn.Module):
    """A block, a parameter and a buffer under any name."""

    def __init__(self, name):
        super().__init__()
        self.name = name
        self.blocks = nn.ModuleDict({name: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())})
        self.scale = nn.Module()
        self.scale.register_parameter(name, nn.Parameter(torch.tensor(2.0)))
        self.offset = nn.Module()
        self.offset.register_buffer(name, torch.tensor(0.5))
        self.last = nn.Conv2d(4, 4, 3)

    def forward(self, x):
        x = self.blocks[self.name](x) * getattr(self.scale, self.name)
        return F.relu(self.last(x) + getattr(self.offset, self.name)).mean((2, 3))


NAMES = ["class", "lambda", "a b", 'a"b', "a-b", "größe", "__x", "None", "0", "graph", "é\n"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_no_source_may_hold(name, tmp_path):
    model, x = Keyed(name).eval(), torch.randn(2, 3, 8, 8)
    graph = trace(model)
    assert torch.equal(graph(x), model(x))
    for path, _ in [*graph.named_modules(), *graph.named_parameters(), *graph.named_buffers()]:
        assert path.isascii() and not any(map(keyword.iskeyword, path.split(".")))
        assert all(part.isidentifier() or part.isdigit() for part in path.split(".") if path)
    snn = convert_model(insert_qcfs(model), neuron="multi")
    snn.save(tmp_path)
    assert torch.equal(load(tmp_path)(x, timesteps=5), snn(x, timesteps=5))


@pytest.mark.parametrize("name", ["graph", "code", "meta", "recompile", "print_readable"])
def test_names_that_a_graph_module_uses_itself(name):
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3)), torch.randn(2, 3, 8, 8)
    model.add_module(name, nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    model.eval()
    assert torch.equal(trace(model)(x), model(x))
    insert_qcfs(model)


def test_a_renamed_leaf_stays_a_leaf():
    model = Keyed("class").eval()
    graph = trace(model, leaf_modules=["blocks.class"])
    assert graph.meta["leaves"] == {"blocks.class_"}
    assert torch.equal(graph(x := torch.randn(2, 3, 8, 8)), model(x))


@pytest.mark.parametrize("operation", ["to", "double", "float", "type", "half", "apply", "train"])
def test_passes_find_free_names(operation):
    """Names of nodes, of which passes make names of modules, may be those of methods."""

    class Casts(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

        def forward(self, x):
            x = F.relu(self.conv(x))
            x = x.to(torch.float64) if operation == "to" else x.double()
            return self.head(x.softmax(1).to(torch.float32).mean((2, 3)))

    model, x = Casts().eval(), torch.randn(2, 3, 8, 8)
    qcfs = insert_qcfs(model)
    for node in qcfs.graph.nodes:
        if node.target in ("to", "double"):
            node.name = operation
    snn = convert_model(qcfs, neuron="multi")
    assert torch.allclose(snn(x, timesteps=30)[-1], qcfs(x), atol=1e-5)


# -- modules that are no sub-modules ---------------------------------------------------------------


class Slices(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
        self.head = nn.Conv2d(4, 5, 1)

    def forward(self, x):
        return self.head(self.layers[2:](self.layers[:2](x))).mean((2, 3))


class Makes(nn.Module):
    """Activations made at every call, in the root and in a block, one of them twice."""

    class Block(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.conv, self.relu = nn.Conv2d(channels, 4, 3), nn.Identity()

        def forward(self, x):
            return nn.Sequential(nn.ReLU(), nn.Dropout(0.5).eval())(self.relu(self.conv(x)))

    def __init__(self):
        super().__init__()
        self.block, self.second, self.head = self.Block(3), self.Block(4), nn.Linear(4, 5)

    def forward(self, x):
        x = nn.ReLU()(nn.MaxPool2d(2)(self.second(self.block(x))) - 0.1)
        return self.head(nn.Flatten()(nn.AdaptiveAvgPool2d(1)(x)))


class InAList(nn.Module):
    """Layers that PyTorch itself knows nothing of."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3)]
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x.mean((2, 3)) * self.scale


@pytest.mark.parametrize(
    ("network", "given"),
    [(Slices, False), (Slices, True), (Makes, False), (Makes, True), (InAList, True)],
)
def test_modules_outside_the_tree_are_taken_in(network, given):
    model, x = network().eval(), torch.randn(2, 3, 12, 12)
    before = dict(model.named_modules())
    graph = trace(model, example_inputs=x if given else None)
    assert torch.equal(graph(x), model(x))
    assert dict(model.named_modules()) == before
    qcfs = insert_qcfs(model, example_inputs=x if given else None)
    snn = convert_model(qcfs, neuron="multi")
    assert torch.allclose(snn(x, timesteps=40)[-1], qcfs(x), atol=1e-5)


class ComputesWeights(nn.Module):
    """A layer whose weights are set in forward is not the layer that it was."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 1)

    def forward(self, x):
        weight = self.conv.weight - self.conv.weight.mean((1, 2, 3), keepdim=True)
        x = torch.func.functional_call(self.conv, {"weight": weight}, (x,))
        return self.head(F.relu(x)).mean((2, 3))


def test_layers_with_computed_weights_are_followed():
    model, x = ComputesWeights().eval(), torch.randn(2, 3, 8, 8)
    graph = trace(model, example_inputs=x)
    assert torch.allclose(graph(x), model(x), atol=1e-6)
    assert [n.target for n in graph.graph.nodes if n.op == "call_module"] == ["head"]


def test_they_are_named_after_the_module_that_calls_them():
    called = [n.target for n in trace(Makes()).graph.nodes if n.op == "call_module"]
    assert "block.sequential.0" in called and "second.sequential.0" in called and "relu" in called
    sliced = [n.target for n in trace(Slices()).graph.nodes if n.op == "call_module"]
    assert sliced == ["layers.0", "layers.1", "layers.2", "layers.3", "head"]


# -- attempts ----------------------------------------------------------------------------------


class AsksForSize(Slices):
    """The first attempt, without an example, fails after modules were taken in."""

    def forward(self, x):
        x = nn.ReLU()(self.layers[:2](x))
        return self.head(self.layers[2:](x)).mean((2, 3)) if x.shape[2] > 1 else x


def test_a_failed_attempt_leaves_no_name_behind():
    graph = trace(AsksForSize())
    called = [n.target for n in graph.graph.nodes if n.op == "call_module"]
    assert called == ["layers.0", "layers.1", "relu", "layers.2", "layers.3", "head"]


class FixedHead(nn.Module):
    """Made for 32 x 32, and says so nowhere."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4 * 15 * 15, 5)

    def forward(self, x):
        assert x.shape[2] == x.shape[3], "not square"
        return self.head(F.relu(self.conv(x)).flatten(1))


def test_usual_sizes_are_tried_until_one_fits():
    model, x = FixedHead().eval(), torch.randn(2, 3, 32, 32)
    assert torch.equal(trace(model)(x), model(x))


def test_what_no_size_changes_is_told_at_once(caplog):
    class Broken(FixedHead):
        calls = 0

        def forward(self, x):
            Broken.calls += 1
            if x.shape[2] > 1:
                raise KeyError("no such thing")

    with pytest.raises(UnconvertibleError, match="no such thing"):
        trace(Broken())
    assert Broken.calls == 2  # without an example, and with one


class SetsABuffer(nn.Module):
    """As ConViT does: a table is made anew for another size."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("table", torch.zeros(1))

    def forward(self, x):
        x = F.relu(self.conv(x))
        if self.table.shape[0] != x.shape[3]:
            self.table = torch.arange(x.shape[3], dtype=x.dtype) * 0.1
        return (x * self.table).mean((2, 3))


def test_a_buffer_that_forward_sets_is_what_it_sets():
    model, x = SetsABuffer().eval(), torch.randn(2, 3, 8, 8)
    graph = trace(model, example_inputs=x)
    assert model.table.shape == (1,)
    assert torch.equal(graph(x), model(x)) and "table" not in graph.state_dict()


def test_a_buffer_for_the_next_call_is_refused():
    class Counts(SetsABuffer):
        def forward(self, x):
            x = self.conv(x) + self.table
            self.table = x.mean()
            return x

    with pytest.raises(
        UnconvertibleError, match="table is set after it was read, for the next call"
    ):
        trace(Counts(), example_inputs=torch.randn(2, 3, 8, 8))


@functools.lru_cache
def remembered(height, width):
    return height * width


def test_a_cache_of_sizes_keeps_no_model_alive():
    class Caches(Slices):
        def forward(self, x):
            return super().forward(x) / remembered(x.shape[2], x.shape[3])

    model = Caches()
    graph = trace(model, example_inputs=torch.randn(2, 3, 8, 8))
    weight = weakref.ref(graph.head.weight)
    assert remembered.cache_info().currsize
    del graph
    gc.collect()
    assert weight() is None
