"""Energy models: the constants, the arithmetic, memory accesses by hand."""

import dataclasses

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from spikeswap.counting import OperationCounter, settle
from spikeswap.evaluate import ENERGY_MODELS, EnergyModel, MemoryModel, energy_model


@pytest.mark.parametrize(
    "name, mac, ac",
    [
        ("45nm-fp32", 4.6, 0.9),
        ("45nm-fp16", 1.5, 0.4),
        ("45nm-int8", 0.23, 0.03),
        ("lemaire", 3.2, 0.1),
    ],
)
def test_named_models(name, mac, ac):
    model = energy_model(name)
    assert (model.mac_picojoules, model.ac_picojoules) == (mac, ac)
    assert model.source
    assert ENERGY_MODELS[name] is model


def test_models_are_frozen_and_pass_through():
    mine = EnergyModel("mine", 1.0, 0.1, "measured")
    assert energy_model(mine) is mine
    with pytest.raises(dataclasses.FrozenInstanceError):
        mine.mac_picojoules = 2.0


@pytest.mark.parametrize(
    "kib, picojoules", [(1, 10), (8, 10), (20, 15), (32, 20), (1024, 100), (1024 + 992, 180)]
)
def test_memory_by_size(kib, picojoules):
    memory = ENERGY_MODELS["lemaire"].memory
    assert memory.access_picojoules(kib * 1024 / 4) == pytest.approx(picojoules)


def _totals(twin="rates"):
    """One linear layer of 4 to 5 behind four IF neurons, two steps, one image."""
    model = nn.Sequential(neuron.IFNode(v_threshold=1.0, v_reset=None), nn.Linear(4, 5))
    counter = OperationCounter(model, True, twin)
    image = torch.tensor([[1.0, 1.0, 0.5, 0.0]])  # 2 + 2 + 1 + 0 spikes in two steps
    with torch.no_grad(), counter.attached(), counter.forward(image, 2) as marked:
        model(marked)
        model(marked)
    counter.close(1, 2)
    return settle(counter.ledger, True)


def test_activations_cost_a_mac_or_their_bits():
    model = energy_model("45nm-fp32")
    assert model.activation_picojoules(3) == pytest.approx(2.7)
    assert model.activation_picojoules(8) == 4.6


def test_arithmetic_energy_is_exact():
    totals = _totals()
    assert (totals.macs, totals.acs) == (0, 25)
    assert energy_model("45nm-fp32").millijoules(totals) == 0.9 * 25 / 1e9
    assert totals.twin_operations == 3 * 5
    assert energy_model("45nm-fp32").quantised_millijoules(totals, 2) == pytest.approx(
        1.8 * 15 / 1e9
    )


def test_memory_energy_by_hand():
    """One price for every memory: accesses times 10 pJ, additions times 1 pJ."""
    model = EnergyModel(
        "flat",
        5.0,
        1.0,
        "by hand",
        MemoryModel(((8192, 10.0), (1 << 30, 10.0)), addition_picojoules=1.0),
    )
    totals = _totals()
    spikes, accumulations, neurons, steps = 5, 25, 4, 2
    accesses = spikes  # read from the queue
    accesses += 3 * accumulations  # weight, potential in and out
    accesses += 2 * neurons * steps  # each neuron's potential at every step, spike or not
    accesses += spikes  # written to the queue
    additions = neurons * steps + spikes  # updates and resets
    additions += 5 * steps  # the bias at every step
    assert model.millijoules(totals) == pytest.approx(
        (accumulations * 1.0 + 10 * accesses + additions) / 1e9
    )
    # the twin: 15 products, each a weight; 4 inputs read once; 5 outputs written; 5 biases
    assert model.quantised_millijoules(totals, 2) == pytest.approx(
        (15 * 2.0 + 10 * (15 + 4 + 5) + 5) / 1e9
    )


def test_a_dense_network_pays_for_its_accesses():
    model = EnergyModel("flat", 5.0, 1.0, "by hand", MemoryModel(((8192, 10.0), (1 << 30, 10.0))))
    ann = nn.Sequential(nn.Linear(4, 5, bias=False))
    counter = OperationCounter(ann, False)
    with torch.no_grad(), counter.attached(), counter.forward(torch.rand(1, 4)) as marked:
        ann(marked)
    counter.close(1, None)
    # 20 MACs, 20 weights, 4 inputs, 5 outputs
    assert model.millijoules(settle(counter.ledger, False)) == pytest.approx(
        (20 * 5.0 + 10 * (20 + 4 + 5)) / 1e9
    )


def test_an_unknown_twin_has_no_energy():
    totals = dataclasses.replace(_totals(), twin_operations=None)
    assert energy_model("lemaire").quantised_millijoules(totals, 2) is None
