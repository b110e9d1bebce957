"""From outputs of single steps, or running values, to the estimate after each step."""

import pytest
import torch

from spikeswap.neurons import CUMULATIVE, RATE
from spikeswap.snn import Readout


def collect(readout, x_TB, chunks):
    start = 0
    for steps in chunks:
        readout.add(x_TB[start : start + steps].flatten(0, 1), steps)
        start += steps
    return readout.result()


@pytest.fixture
def steps():
    return torch.randn(12, 3, 5, dtype=torch.double)


CHUNKS = [[12], [1] * 12, [5, 4, 3]]


@pytest.mark.parametrize("chunks", CHUNKS)
def test_mean_of_all_steps_so_far(steps, chunks):
    found = collect(Readout(RATE, False, "mean"), steps, chunks)
    torch.testing.assert_close(found, torch.stack([steps[:t].mean(0) for t in range(1, 13)]))


@pytest.mark.parametrize("chunks", CHUNKS)
def test_mean_of_the_second_half(steps, chunks):
    """After step t: steps t/2 + 1 to t (rounded down), for every t, also the odd ones."""
    found = collect(Readout(RATE, False, "second-half"), steps, chunks)
    torch.testing.assert_close(
        found, torch.stack([steps[t // 2 : t].mean(0) for t in range(1, 13)])
    )


@pytest.mark.parametrize("chunks", CHUNKS)
def test_sum_of_all_steps_so_far(steps, chunks):
    found = collect(Readout(CUMULATIVE, False, "mean"), steps, chunks)
    torch.testing.assert_close(found, steps.cumsum(0))


@pytest.mark.parametrize("coding", [RATE, CUMULATIVE])
def test_running_values_give_the_same_as_their_steps(steps, coding):
    running = steps.cumsum(0)
    if coding is RATE:
        running = running / torch.arange(1, 13).view(-1, 1, 1)
    for name in ("mean", "second-half") if coding is RATE else ("mean",):
        torch.testing.assert_close(
            collect(Readout(coding, True, name), running, [7, 5]),
            collect(Readout(coding, False, name), steps, [12]),
        )


def test_second_half_forgets_the_start_up():
    """A network that is silent for 10 steps and right from then on."""
    x = torch.zeros(40, 1, 1)
    x[10:] = 1.0
    assert collect(Readout(RATE, False, "mean"), x, [40])[-1].item() == 0.75
    assert collect(Readout(RATE, False, "second-half"), x, [40])[-1].item() == 1.0


def test_unknown_and_unfit_readouts_are_refused():
    with pytest.raises(ValueError, match="mean, second-half"):
        RATE.check_readout("last")
    with pytest.raises(ValueError, match="rate coding"):
        CUMULATIVE.check_readout("second-half")
