"""What values are: spikes of which alphabet, or analog."""

import pytest
import torch

from spikeswap.counting import Alphabet, inspect


def _random(values, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(len(values), shape, generator=generator)
    return torch.tensor(values, dtype=torch.float32)[index]


@pytest.mark.parametrize(
    "values, text",
    [
        ([0, 1], "spikes {0,1}"),
        ([0, 0.3], "spikes {0,s}"),
        ([-1, 0, 1], "signed spikes {-1,0,1}"),
        ([-0.7, 0, 0.7], "signed spikes {-s,0,s}"),
        ([0, 1, 2, 4], "multi-level spikes {0..4}"),
        ([-2, 0, 1], "multi-level spikes {-2..2}"),
        ([0, 0.5, 0.8], "analog"),
    ],
)
def test_per_tensor_units_and_whole_numbers(values, text):
    assert str(inspect(_random(values, 16, 9, 5))) == text


@pytest.mark.parametrize("axis", [1, 2])
def test_a_unit_a_channel(axis):
    spikes = _random([0, 1], 16, 9, 5)
    shape = [1, 1, 1]
    shape[axis] = spikes.shape[axis]
    unit = (torch.rand(spikes.shape[axis]) + 0.1).view(shape)
    assert str(inspect(spikes * unit)) == "spikes {0,s}"


def test_given_units_are_held_to():
    unit = torch.tensor([0.5, 2.0, 0.0])
    counts = torch.tensor([[1.0, -3.0, 0.0], [4.0, 0.0, 0.0]])
    alphabet = inspect(counts * unit, unit)
    assert (alphabet.levels, alphabet.signed, alphabet.analog) == (4, True, False)
    assert inspect(counts * 0.3, unit).analog
    dead = torch.tensor([[0.0, 0.0, 0.1]])
    assert inspect(dead, unit).analog


@pytest.mark.parametrize(
    "x", [torch.tensor([0.0, float("nan")]), torch.rand(50), torch.tensor([0.0, float("inf")])]
)
def test_analog(x):
    assert inspect(x).analog


def test_join_over_a_run():
    silent, spikes = inspect(torch.zeros(4)), inspect(torch.tensor([0.0, 0.5]))
    assert silent.join(spikes) == spikes == spikes.join(silent)
    other_height = inspect(torch.tensor([0.0, 0.6]))
    assert spikes.join(other_height).analog  # two heights for one input: no unit
    assert spikes.join(inspect(torch.rand(9))).analog
    assert Alphabet(1).join(Alphabet(3, signed=True)) == Alphabet(3, signed=True)
