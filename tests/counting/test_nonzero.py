"""Counts of nonzero elements, the fast ways against the plain one."""

import pytest
import torch

from spikeswap.counting import count_nonzero, count_per_position
from spikeswap.counting.nonzero import count_equal, sum_over_steps


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
def test_count_equal_is_exact(shape, axis, units, dtype):
    unit = (torch.rand(units) + 0.05).to(dtype)
    if units > 1:
        unit[1] = torch.nan  # a dead channel
    height = unit.view(-1, *[1] * (len(shape) - 2)) if axis == 1 and units > 1 else unit
    x = _spikes(*shape, rate=0.9, dtype=dtype) * height.nan_to_num(0.0)
    spikes = int((x != 0).sum())
    assert count_equal(x, height) == spikes > 0
    x.view(-1)[-1] += 1
    assert count_equal(x, height) == int((x == height).sum())
    halves = torch.full((64, 64), 0.5, dtype=dtype)
    assert (count_equal(halves, torch.ones(1)), count_nonzero(halves)) == (0, 4096)


def test_sum_over_steps():
    x = torch.tensor([[1.0, 0.0, -2.0], [1.0, 0.0, 2.0]])  # two steps of three places
    assert sum_over_steps(x, 2, signed=False).tolist() == [2, 0, 2]
    assert sum_over_steps(x, 2, signed=True).tolist() == [2, 0, 0]
