"""Whole weights: one scale with the threshold, rounded as data say, the bias in step."""

import copy

import pytest
import torch

from spikeswap.export import integers
from spikeswap.export.layers import Exportable, Image, Neurons, Readout, Weighted
from spikeswap.export.lowering import lower
from spikeswap.export.simulation import simulate


def one_layer(weight, bias=None):
    outputs, inputs = weight.shape
    layers = {
        "input": Image("input", [], (inputs,)),
        "w": Weighted("w", ["input"], (outputs,), weight, bias),
        "n": Neurons("n", ["w"], (outputs,), "site"),
        "head": Weighted("head", ["n"], (2,), torch.ones(2, outputs, dtype=torch.float64)),
        "output": Readout("output", ["head"], (2,)),
    }
    return Exportable(layers)


def test_weights_on_a_grid_stay_what_they_are():
    """Eighths of up to 15: threshold 8 k holds them all."""
    weight = torch.randint(-15, 16, (6, 10)).double() / 8
    network = one_layer(weight, torch.zeros(6, dtype=torch.float64))
    integers.to_integers(network, torch.rand(64, 10), 8, 16)
    scale = network.layers["n"].threshold
    assert scale == int(scale) and scale > 1000
    torch.testing.assert_close(
        network.layers["w"].weight / scale, weight, rtol=0, atol=0.501 / scale
    )


@pytest.mark.parametrize("bits", [8, 16])
def test_everything_is_whole_and_in_range(small, bits):
    snn, images = small.converted(small.Block())
    network = lower(snn, images)
    integers.to_integers(network, images, small.T, bits)
    most = 2 ** (bits - 1)
    for layer in network.weighted:
        assert torch.equal(layer.weight, layer.weight.round())
        assert -most <= layer.weight.min() and layer.weight.max() < most
        if not any(isinstance(network.layers[name], Weighted) for name in layer.inputs):
            assert layer.weight.abs().max() > most / 4 or layer.identity  # the range is used
        assert torch.equal(layer.bias, layer.bias.round())
    assert all(layer.threshold == int(layer.threshold) >= 1 for layer in network.neurons)
    assert network.layers["output"].scale >= 1


def test_a_network_on_whole_numbers_stays_near(small):
    snn, images = small.converted(small.Block())
    plain, errors = lower(snn, images), []
    wanted = simulate(plain, images, 32)[0].mean(0)
    for bits in (8, 16):
        network = copy.deepcopy(plain)
        integers.to_integers(network, images, 32, bits)
        found = simulate(network, images, 32)[0].mean(0) / network.layers["output"].scale
        errors.append(float((found - wanted).norm() / wanted.norm()))
    assert errors[0] < 0.1 and errors[1] < 0.01


def test_an_outlier_does_not_take_the_range():
    """One weight of 20 among small ones that matter: cutting it off a little is cheaper."""
    weight = torch.randn(4, 64, dtype=torch.float64) * 0.05
    weight[0, 0] = 2.0
    images = torch.rand(200, 64)
    images[:, 0] *= 0.01  # and its input is hardly ever there
    network = one_layer(weight, torch.zeros(4, dtype=torch.float64))
    integers.to_integers(network, images, 8, 8)
    assert network.layers["n"].threshold > 1.3 * 127 / 2.0


def test_the_bias_takes_over_what_rounding_changes_on_average():
    """In both layers: the second is compared on what the rounded first really sends it."""
    torch.manual_seed(0)
    images = torch.rand(500, 30)
    network = one_layer(torch.randn(5, 30, dtype=torch.float64) * 0.4)
    network.layers["head"].weight = torch.randn(2, 5, dtype=torch.float64)
    before = copy.deepcopy(network)
    integers.to_integers(network, images, 16, 8)
    for name in ("w", "head"):
        scale = network.layers["n"].threshold if name == "w" else network.layers["output"].scale
        change = integers._rates(network, images, 16)[name].double() / scale
        change = change - integers._rates(before, images, 16)[name].double()
        assert change.mean(0).abs().max() <= 0.5 / scale + 1e-6  # half a unit: biases are whole


def test_summed_branches_share_their_scale(small):
    snn, images = small.converted(small.LinearBottlenecks())
    network = lower(snn, images)
    groups = integers._groups(network)
    assert sorted(name for group in groups for name in group) == sorted(
        layer.name for layer in network.weighted
    )
    for layer in network.layers.values():
        summed = [n for n in layer.inputs if isinstance(network.layers[n], Weighted)]
        assert sum(bool({*summed} & {*group}) for group in groups) <= 1
