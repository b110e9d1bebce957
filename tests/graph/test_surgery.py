"""Cuts on graphs: names stay free, users are rewired, what nothing reads is deleted."""

import keyword

import pytest
import torch
from torch import nn

from spikeswap.graph import trace
from spikeswap.graph.surgery import (
    add_buffer,
    add_module,
    attribute,
    call_module_after,
    calls,
    drop_unused,
    erase,
    finish,
    free_name,
    set_module,
)


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.act, self.second = nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)
        self.unused = nn.Linear(3, 3)

    def forward(self, x):
        y = self.act(self.first(x))
        return self.second(y) + y


@pytest.fixture
def graph():
    return trace(Chain())


def node_of(graph, target):
    return next(n for n in graph.graph.nodes if n.target == target)


def test_added_modules_and_buffers_get_free_names(graph):
    assert add_module(graph, "act", nn.ReLU()) == "act_1"
    assert add_module(graph, "new.deep.name", nn.ReLU()) == "new.deep.name"
    assert isinstance(graph.get_submodule("new.deep.name"), nn.ReLU)
    assert add_buffer(graph, "a.b", torch.ones(1)) == "a_b"
    assert add_buffer(graph, "a.b", torch.zeros(1)) == "a_b_1"
    assert attribute(graph, "a_b_1").item() == 0


@pytest.mark.parametrize(
    "name", ["to", "double", "training", "meta", "class", "a b", "__x", "ü", ""]
)
def test_names_are_free_and_valid(graph, name):
    for root in (graph, graph.second):
        free = free_name(root, name)
        assert free.isidentifier() and free.isascii() and not keyword.iskeyword(free)
        assert not hasattr(root, free) and not free.startswith("__")
    for path in (name, f"{name}.{name}", f"first.{name}", f"new.{name}.act"):
        used = add_module(graph, path, module := nn.ReLU())
        assert graph.get_submodule(used) is module
    value = torch.ones(1)
    assert getattr(graph, add_buffer(graph, name, value)) is value
    graph.recompile()
    assert graph(torch.randn(2, 3)).shape == (2, 3)


def test_names_that_are_good_stay():
    bare = nn.Module()
    assert [free_name(bare, name) for name in ("relu", "_conv", "0", "Block2")] == [
        "relu",
        "_conv",
        "0",
        "Block2",
    ]


def test_a_module_behind_a_node_is_read_by_all_its_users(graph):
    x = torch.randn(4, 3)
    call_module_after(graph, node_of(graph, "act"), "double", nn.Threshold(1e9, 0.0))
    finish(graph, 1)
    assert torch.equal(graph(x), graph.second.bias.expand(4, 3))


def test_a_module_behind_a_node_for_some_users(graph):
    x = torch.randn(4, 3)
    y = graph.act(graph.first(x))
    call_module_after(
        graph,
        node_of(graph, "act"),
        "gate",
        nn.Threshold(1e9, 0.0),
        users=lambda user: user.op == "call_module",
    )
    finish(graph, 1)
    torch.testing.assert_close(graph(x), graph.second.bias + y)


def test_erase_hands_users_on(graph):
    x = torch.randn(4, 3)
    node = node_of(graph, "act")
    erase(node, node.args[0])
    finish(graph, 1)
    y = graph.first(x)
    torch.testing.assert_close(graph(x), graph.second(y) + y)


def test_calls_follow_the_data_not_the_registration():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.early = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.last(self.early(x))

    assert [n.target for n, _ in calls(trace(Backwards()), nn.Linear)] == ["early", "last"]


def test_what_nothing_reads_is_deleted(graph):
    graph.register_buffer("orphan", torch.ones(3))
    drop_unused(graph)
    names = set(graph.state_dict())
    assert names == {"first.weight", "first.bias", "second.weight", "second.bias"}
    graph(torch.randn(2, 3))


def test_set_module_replaces_in_place(graph):
    set_module(graph, "act", nn.Threshold(1e9, 0.0))
    assert torch.equal(graph(torch.randn(2, 3)), graph.second.bias.expand(2, 3))
