"""Counts of nonzero elements, the fast ways against the plain one."""

import pytest
import torch

from spikeswap.counting import count_nonzero, count_per_position
from spikeswap.counting.nonzero import count_by_unit, inverse_of, sum_over_steps


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "shape, axis, units, by_place",
    [
        ((40, 7, 9, 11), 1, 1, True),
        ((40, 7, 9, 11), 1, 7, True),
        ((40, 7, 9, 11), 1, 7, False),
        ((300, 64, 48), -1, 48, False),
        ((300, 64, 48), -1, 1, False),
        ((3, 5), 1, 5, False),
    ],
)
def test_count_by_unit_is_exact(shape, axis, units, by_place, dtype):
    unit = torch.rand(units, dtype=dtype) + 0.05
    if units > 1:
        unit[1] = 0  # a dead channel
    height = unit.view(-1, *[1] * (len(shape) - 2)) if axis == 1 and units > 1 else unit
    x = _spikes(*shape, rate=0.9, dtype=dtype) * height
    places = shape[-2:] if by_place else None
    spikes, counts = count_by_unit(x, inverse_of(unit, x), axis, places)
    assert spikes == int((x != 0).sum())
    if by_place:
        assert torch.equal(counts, (x != 0).reshape(-1, shape[-1] * shape[-2]).sum(0))


def test_count_by_unit_refuses_values_that_are_no_spikes():
    inverse = inverse_of(torch.tensor([0.5]), torch.rand(1))
    assert count_by_unit(_spikes(64, 64) * 0.7, inverse, 1, None) is None
    analog = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    assert count_by_unit(analog, inverse, 1, None) is None


def test_sum_over_steps():
    x = torch.tensor([[1.0, 0.0, -2.0], [1.0, 0.0, 2.0]])  # two steps of three places
    assert sum_over_steps(x, 2, signed=False).tolist() == [2, 0, 2]
    assert sum_over_steps(x, 2, signed=True).tolist() == [2, 0, 0]
