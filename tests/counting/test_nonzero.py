"""Counts of nonzero elements, the fast ways against the plain one."""

import pytest
import torch

from spikeswap.counting import count_nonzero, count_per_position
from spikeswap.counting.nonzero import count_spikes, sum_over_steps


def _spikes(*shape, rate=0.3, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator) < rate).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3,), (7, 5), (33, 64, 17), (40, 8, 30, 31)])
def test_count_nonzero(shape, dtype):
    x = _spikes(*shape, dtype=dtype) * 0.37
    assert count_nonzero(x) == int((x != 0).sum())
    if x.dim() > 1:
        assert count_nonzero(x.transpose(0, 1)) == int((x != 0).sum())


def test_count_nonzero_of_negative_and_tiny_values():
    x = torch.tensor([0.0, -1.0, 1e-30, -0.0, 5.0])
    assert count_nonzero(x) == 3


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (50, 16, 12, 11), (3, 2, 600, 500)])
def test_count_per_position(shape):
    x = _spikes(*shape)
    places = shape[2] * shape[3]
    expected = (x != 0).reshape(-1, places).sum(0)
    assert torch.equal(count_per_position(x, places), expected)
    last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(count_per_position(last, places), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "shape, axis, units",
    [
        ((40, 7, 9, 11), 1, 1),
        ((40, 7, 30, 31), 1, 7),
        ((300, 64, 48), -1, 48),
        ((3, 5), 1, 5),
    ],
)
def test_spikes_and_whole_units_are_counted_exactly(shape, axis, units, dtype):
    unit = (torch.rand(units) + 0.05).to(dtype)
    if units > 1:
        unit[1] = torch.nan  # a dead channel
    height = unit.view(-1, *[1] * (len(shape) - 2)) if axis == 1 and units > 1 else unit
    x = _spikes(*shape, rate=0.9, dtype=dtype) * height.nan_to_num(0.0)
    spikes = int((x != 0).sum())
    counts, whole = count_spikes(x, height)
    assert (int(counts), whole) == (spikes, spikes)
    x.view(-1)[::7] += 1
    positions = shape[-1]
    counts, whole = count_spikes(x, height, positions)
    assert torch.equal(counts, (x != 0).view(-1, positions).sum(0))
    assert whole == int((x == height).sum()) < int(counts.sum())


def test_halves_of_spikes_are_no_spikes():
    counts, whole = count_spikes(torch.full((64, 64), 0.5), torch.ones(1))
    assert (int(counts), whole) == (4096, 0)


def test_sum_over_steps():
    x = torch.tensor([[1.0, 0.0, -2.0], [1.0, 0.0, 2.0]])  # two steps of three places
    assert sum_over_steps(x, 2, signed=False).tolist() == [2, 0, 2]
    assert sum_over_steps(x, 2, signed=True).tolist() == [2, 0, 0]
