"""Activations to QCFS, QCFS to clipped ReLU, QCFS to spiking neurons."""

import pytest
import torch
from torch import nn

from spikeswap.convert.passes.sites import open_sites_to_qcfs, qcfs_to_clipped, qcfs_to_neurons
from spikeswap.graph import trace
from spikeswap.neurons import NEURONS, QCFS, ClippedReLU


def network():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.ReLU6(),
        nn.Flatten(2),
        nn.Linear(16, 5),
        nn.ReLU(),
    ).eval()


SITES = ["1", "3", "6"]


def test_every_relu_becomes_a_qcfs_of_the_same_name():
    graph = trace(network())
    assert open_sites_to_qcfs(graph, 8, 2.0, None) == 3
    found = {name: m for name, m in graph.named_modules() if isinstance(m, QCFS)}
    assert list(found) == SITES
    assert all(m.levels == 8 and m.threshold.item() == 2.0 for m in found.values())
    assert [m.axis for m in found.values()] == [1, 1, -1]


def test_the_bound_of_a_clipped_relu_limits_the_threshold():
    graph = trace(network())
    open_sites_to_qcfs(graph, 8, 9.0, None)
    assert graph.get_submodule("1").threshold.item() == 9.0
    assert graph.get_submodule("3").threshold.item() == 6.0


def test_thresholds_by_name():
    graph = trace(network())
    values = {
        "1": torch.tensor([1.0, 2.0, 3.0, 4.0]),
        "3": torch.tensor([5.0, 6.0, 7.0, 8.0]),
        "6": torch.tensor([0.5]),
    }
    open_sites_to_qcfs(graph, 8, 2.0, values)
    assert graph.get_submodule("1").threshold.tolist() == [1, 2, 3, 4]
    assert graph.get_submodule("3").threshold.tolist() == [5, 6, 6, 6]
    assert graph.get_submodule("6").threshold.tolist() == [0.5]


@pytest.mark.parametrize(
    "change, names",
    [
        (lambda v: v.pop("3"), ["missing", "'3'"]),
        (lambda v: v.update(extra=v["1"]), ["unknown", "'extra'"]),
    ],
)
def test_thresholds_of_other_sites_are_refused_by_name(change, names):
    values = {name: torch.ones(1) for name in SITES}
    change(values)
    with pytest.raises(ValueError) as caught:
        open_sites_to_qcfs(trace(network()), 8, 2.0, values)
    assert all(name in str(caught.value) for name in names)


def test_nothing_to_do_changes_nothing():
    graph = trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(), nn.Hardtanh(-1, 1)))
    assert open_sites_to_qcfs(graph, 8, 2.0, None) == 0
    assert qcfs_to_clipped(graph) == 0 and qcfs_to_neurons(graph, "if") == 0
    assert not any(isinstance(m, QCFS) for m in graph.modules())


def test_many_levels_and_a_high_threshold_keep_the_numbers():
    model, x = network().double(), torch.randn(2, 3, 8, 8, dtype=torch.double)
    graph = trace(model)
    open_sites_to_qcfs(graph, 2**24, 64.0, None)
    torch.testing.assert_close(graph.double()(x), model(x), rtol=0, atol=1e-4)


def test_clipped_is_a_clip_at_each_threshold():
    graph = trace(network())
    open_sites_to_qcfs(graph, 4, 0.25, None)
    assert qcfs_to_clipped(graph) == 3
    x = torch.randn(2, 3, 8, 8)
    y = x
    for module in network_of(graph):
        y = y.clamp(0, 0.25) if isinstance(module, ClippedReLU) else module(y)
    torch.testing.assert_close(graph(x), y)


def network_of(graph):
    return [graph.get_submodule(n.target) for n in graph.graph.nodes if n.op == "call_module"]


@pytest.mark.parametrize("kind", list(NEURONS))
def test_neurons_take_threshold_levels_and_axis(kind):
    graph = trace(network())
    values = {"1": torch.tensor([1.0, 2.0, 3.0, 4.0]), "3": torch.ones(1), "6": torch.ones(5)}
    open_sites_to_qcfs(graph, 8, 2.0, values)
    assert qcfs_to_neurons(graph, kind) == 3
    neuron = graph.get_submodule("1")
    assert type(neuron) is NEURONS[kind] and neuron.levels == 8 and neuron.axis == 1
    assert neuron.threshold.tolist() == [1, 2, 3, 4] and not neuron.threshold.requires_grad
    assert graph.get_submodule("6").axis == -1
