"""What chips say to a network: their published rules, worked by hand."""

import dataclasses

import pytest
import torch

from spikeswap.export import fit
from spikeswap.export.layers import Exportable, Image, Neurons, Pool, Readout, Weighted


def chain(*widths, side=16, kernel=3, stride=1):
    """Convolutions of these widths, each with its neurons, and a matrix of 10 as the output."""
    layers = {"input": Image("input", [], (1, side, side))}
    last, given = "input", 1
    for i, width in enumerate(widths):
        weight = torch.zeros(width, given, kernel, kernel)
        shape = (width, side, side)
        more = {"stride": (stride, stride)}
        layers[f"c{i}"] = Weighted(f"c{i}", [last], shape, weight, **more)
        layers[f"n{i}"] = Neurons(f"n{i}", [f"c{i}"], shape, f"s{i}")
        last, given = f"n{i}", width
    layers["head"] = Weighted("head", [last], (10,), torch.zeros(10, given))
    layers["output"] = Readout("output", ["head"], (10,))
    return Exportable(layers)


def of(name, network):
    return next(one for one in fit.fits(network) if one.chip == name)


def test_words_of_a_kernel_and_of_neurons():
    """c_in 2^(ceil log2 9 + ceil log2 20) = 12 x 16 x 32; 20 x 16 x 16 neurons of 13 x 11."""
    layer = Weighted("c", ["input"], (20, 13, 11), torch.zeros(20, 12, 3, 3))
    assert fit._kernel_words(layer) == 12 * 16 * 32
    assert fit._neuron_words((20, 13, 11)) == 20 * 16 * 16
    assert fit._kernel_words(Weighted("l", [], (10,), torch.zeros(10, 64))) == 64 * 16
    assert fit._neuron_words((10,)) == 10


def test_a_small_network_fits():
    found = of("Speck 2e", chain(8, 16, 32))
    assert found.fits and (found.cores, found.available) == (4, 9) and found.first is None


@pytest.mark.parametrize(("network", "first", "why"), [
    (chain(8, 256, 256, side=8), "n2", "its kernel takes 1048576 words, the largest core has 65536"),
    (chain(512, side=16), "n0", "its neurons take 131072 words, the largest core has 65536"),
    (chain(*[4] * 9, side=8), "output", "it is layer 10 of 10, and there are 9 cores"),
    (chain(4, kernel=17), "n0", "its kernel is 17 x 17, square ones up to 16 fit"),
    (chain(4, stride=3), "n0", "its stride is .3, 3., strides of"),
    (chain(1100, side=1), "n0", "it has 1100 channels, up to 1024 fit"),
])  # fmt: skip
def test_the_first_layer_that_does_not_fit_is_named(network, first, why):
    import re

    found = of("Speck 2f", network)
    assert not found.fits and found.first == first and re.match(why, found.why), found.why


def test_cores_that_hold_much_are_given_once():
    """Two layers of 40,960 kernel words: two cores of 65,536 hold neither a third nor both."""
    network = chain(16, 64, 64, 64, 64, side=8)  # 64 x 16 x 64 = 65,536 words each
    found = of("Speck 2e", network)
    assert not found.fits and found.why == "the cores that would hold it are taken by other layers"


def test_average_pools_and_three_readers_are_refused():
    network = chain(8)
    pool = Pool("p", ["n0"], (8, 8, 8), (2, 2), (2, 2), average=True)
    network.layers = {**dict(list(network.layers.items())[:3]), "p": pool,
                      **dict(list(network.layers.items())[3:])}  # fmt: skip
    network.layers["head"].inputs = ["p"]
    assert "sum pools of [1, 2, 4] fit" in of("Speck 2e", network).why
    network = chain(8)
    for i in range(3):
        network.layers[f"extra{i}"] = Weighted(
            f"extra{i}", ["n0"], (4, 16, 16), torch.zeros(4, 8, 1, 1)
        )
    assert "4 layers read it, up to 2 can" in of("Speck 2e", network).why


def test_a_chip_that_splits_layers_counts_cores():
    """9 x 8,192 neurons on Loihi 2: nine cores for them, one for the output."""
    network = chain(72, side=32)
    found = of("Loihi 2", network)
    assert found.fits and found.cores == 9 + 1
    large = of("Loihi 2", chain(*[2048] * 4, side=32))
    assert not large.fits and large.first == "n0" and "cores are needed, there are 128" in large.why


def test_words_for_a_user():
    lines = fit.lines([dataclasses.asdict(one) for one in fit.fits(chain(8, 256, 256, side=8))])
    assert len(lines) == len(fit.chips()) == 4
    assert any(line.startswith("Speck 2e: does not fit: n2: its kernel takes") for line in lines)
