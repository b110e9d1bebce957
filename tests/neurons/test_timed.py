"""Converters between time domains, and offsets that act once."""

import pytest
import torch

from spikeswap.neurons import Accumulate, ChannelAffine, Clock, Offset, Present


def run(unit, x_TB, *args, chunks=None):
    if hasattr(unit, "reset"):
        unit.reset()
    out, start = [], 0
    for steps in chunks or [len(x_TB)]:
        unit.clock = Clock(start, steps, x_TB.shape[1])
        part = x_TB[start : start + steps]
        out.append(unit(part.flatten(0, 1), *args).unflatten(0, (steps, x_TB.shape[1])))
        start += steps
    return torch.cat(out)


@pytest.mark.parametrize("chunks", [None, [1] * 6, [4, 2]])
def test_accumulate_is_the_mean_or_the_sum_so_far(chunks):
    x = torch.randn(6, 2, 3, dtype=torch.double)
    count = torch.arange(1, 7).view(-1, 1, 1)
    torch.testing.assert_close(run(Accumulate("cumulative"), x, chunks=chunks), x.cumsum(0))
    torch.testing.assert_close(run(Accumulate("rate"), x, chunks=chunks), x.cumsum(0) / count)


def test_accumulate_starts_anew_after_reset():
    unit, x = Accumulate("rate"), torch.randn(4, 2, 3)
    assert torch.equal(run(unit, x), run(unit, x))


@pytest.mark.parametrize("chunks", [[6], [1] * 6, [4, 2]])
@pytest.mark.parametrize("once", [False, True])
def test_present_repeats_in_every_step_or_in_the_first_alone(once, chunks):
    unit, x = Present(once), torch.randn(2, 3, 4)
    out, start = [], 0
    for steps in chunks:
        unit.clock = Clock(start, steps, 2)
        out.append(unit(x).view(steps, 2, 3, 4))
        start += steps
    out = torch.cat(out)
    assert torch.equal(out[0], x)
    assert (out[1:] == (0 if once else x)).all()


@pytest.mark.parametrize("chunks", [None, [1] * 6, [4, 2]])
def test_offset_acts_in_the_first_step_alone(chunks):
    x, c = torch.randn(6, 2, 3, 4), torch.randn(3, 1)
    out = run(Offset(), x, c, chunks=chunks)
    torch.testing.assert_close(out[0], x[0] + c)
    assert torch.equal(out[1:], x[1:])


@pytest.mark.parametrize("axis, shape", [(1, (2, 5, 3, 3)), (1, (2, 5)), (-1, (2, 7, 5))])
def test_channel_affine_is_scale_and_offset_along_its_axis(axis, shape):
    scale, offset, x = torch.randn(5), torch.randn(5), torch.randn(shape)
    out = ChannelAffine(scale, offset, axis)(x)
    expected = x.movedim(axis, -1) * scale + offset
    torch.testing.assert_close(out.movedim(axis, -1), expected)
    bare = ChannelAffine(scale, None, axis)(x)
    torch.testing.assert_close(bare.movedim(axis, -1), x.movedim(axis, -1) * scale)
