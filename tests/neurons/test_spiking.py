"""The spiking neurons: what they send, what it sums to, and that chunks do not matter."""

import math

import pytest
import torch

from spikeswap.neurons import CUMULATIVE, IF, NEURONS, QCFS, RATE, STBIF, Clock, Multi


def run(neuron, x_TB, chunks=None):
    """Feed [T, B, ...] step by step; returns what is sent, [T, B, ...]."""
    neuron.reset()
    sent, start = [], 0
    for steps in chunks or [len(x_TB)]:
        neuron.clock = Clock(start, steps, x_TB.shape[1])
        part = x_TB[start : start + steps]
        sent.append(neuron(part.flatten(0, 1)).view(part.shape))
        start += steps
    assert start == len(x_TB)
    return torch.cat(sent)


def counts_of(neuron, sent_TB):
    """Spikes in units, [T, B, ...]."""
    return neuron.to_integers(sent_TB.flatten(0, 1)).view(sent_TB.shape)


def make(kind, threshold=2.0, levels=16, axis=1, dtype=torch.double):
    return NEURONS[kind](torch.as_tensor(threshold, dtype=dtype).reshape(-1), levels, axis)


def settled_stream(steps=80, batch=3, width=40):
    """A stream whose sum moves for 12 steps and then stands still, [T, B, width]."""
    x = torch.zeros(steps, batch, width, dtype=torch.double)
    x[:12] = torch.randn(12, batch, width, dtype=torch.double)
    x[0] += 1.0
    return x


@pytest.mark.parametrize("levels", [1, 4, 16])
def test_if_equals_qcfs_at_t_equal_levels(levels):
    """Constant input, dyadic threshold, inputs away from the level edges: exact even in float32."""
    s = 2.0
    x = torch.arange(-40, 90) / 32 + 1 / 128
    edges = (torch.arange(levels) + 0.5) * s / levels
    assert (x[:, None] - edges).abs().min() > 1e-3
    sent = run(make("if", s, levels, dtype=torch.float32), x.expand(levels, 1, -1).contiguous())
    assert torch.equal(sent.mean(0)[0], QCFS(levels, s)(x))


def test_if_fires_on_a_tie():
    """s = 1, x = 1/2: v = 1/2 + 1/2 reaches the threshold in the first step."""
    sent = run(make("if", 1.0), torch.full((4, 1, 1), 0.5).double())
    assert sent.flatten().tolist() == [1, 0, 1, 0]


def test_if_resets_by_subtraction():
    """s = 1, x = 0.75: v = 1.25, 1.0, 0.75, 1.5, ...; the rest is kept."""
    neuron = make("if", 1.0)
    assert run(neuron, torch.full((8, 1, 1), 0.75).double()).flatten().tolist() == [
        1,
        1,
        0,
        1,
        1,
        1,
        0,
        1,
    ]
    assert neuron.membrane().item() == 0.5 + 8 * 0.75 - 6


def test_if_sends_at_most_one_spike_a_step():
    sent = run(make("if", 1.0), torch.full((5, 1, 1), 7.0).double())
    assert sent.flatten().tolist() == [1.0] * 5


def test_if_membrane_is_the_charge_that_was_not_sent():
    x = torch.randn(20, 2, 5, dtype=torch.double)
    neuron = make("if", 1.5)
    sent = run(neuron, x)
    torch.testing.assert_close(neuron.membrane(), 0.75 + x.sum(0) - sent.sum(0), rtol=0, atol=1e-12)


def test_if_mean_tends_to_the_clipped_input():
    x = torch.linspace(-1, 3, 101, dtype=torch.double)
    for steps in (64, 1024):
        mean = run(make("if", 2.0), x.expand(steps, 1, -1).contiguous()).mean(0)[0]
        assert (mean - x.clamp(0, 2)).abs().max() <= 2.0 / steps


@pytest.mark.parametrize("kind", ["stbif", "multi"])
@pytest.mark.parametrize("levels", [1, 3, 10, 16, 256])
def test_cumulative_neurons_settle_at_the_level_of_qcfs(kind, levels):
    x = settled_stream(steps=2 * levels + 30)
    neuron = make(kind, 2.0, levels)
    sent = run(neuron, x)
    torch.testing.assert_close(sent.sum(0), QCFS(levels, 2.0).double()(x.sum(0)), rtol=0, atol=1e-9)
    assert not sent[-1].any(), "a settled neuron is silent"


@pytest.mark.parametrize("kind", ["stbif", "multi"])
@pytest.mark.parametrize("levels", [1, 3, 10, 16])
def test_running_sum_stays_between_zero_and_levels(kind, levels):
    neuron = make(kind, 1.0, levels)
    x = 2 * torch.randn(60, 2, 50, dtype=torch.double)
    sums = counts_of(neuron, run(neuron, x)).long().cumsum(0)
    assert sums.min() == 0 and sums.max() == levels


@pytest.mark.parametrize(
    "kind, levels, alphabet",
    [
        ("if", 16, [0, 1]),
        ("stbif", 16, [-1, 0, 1]),
        ("multi", 1, [-1, 0, 1]),
        ("multi", 10, [-8, -4, -2, -1, 0, 1, 2, 4, 8]),
        ("multi", 16, [-16, -8, -4, -2, -1, 0, 1, 2, 4, 8, 16]),
    ],
)
def test_alphabet_is_what_is_sent(kind, levels, alphabet):
    neuron = make(kind, 1.0, levels)
    assert neuron.alphabet == alphabet
    counts = counts_of(neuron, run(neuron, 2 * torch.randn(200, 1, 200, dtype=torch.double)))
    assert sorted(counts.unique().tolist()) == alphabet


def test_multi_sends_the_nearest_power_of_two():
    """From rest to level n of 16: the spikes of the first steps, for every n."""
    neuron = make("multi", 16.0, 16)
    x = torch.zeros(8, 1, 17, dtype=torch.double)
    x[0, 0] = torch.arange(17)
    counts = counts_of(neuron, run(neuron, x))[:, 0]
    assert counts[0].tolist() == [0, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8, 16, 16, 16, 16]
    assert counts.sum(0).tolist() == list(range(17))
    assert not counts[3:].any(), "three signed powers of two reach every level up to 16"


def test_multi_settles_a_tie_by_its_membrane():
    """3 whole levels lie between 2 and 4: the nearer one to the membrane is sent; 12 likewise."""
    neuron = make("multi", 16.0, 16)
    x = torch.tensor([2.7, 3.0, 3.3, 11.8, 12.2], dtype=torch.double).view(1, 1, 5)
    assert counts_of(neuron, run(neuron, x)).flatten().tolist() == [2, 2, 4, 8, 16]
    goal = torch.tensor([4.3, 3.8, 10.3, 9.8], dtype=torch.double).view(1, 1, 4)
    down = torch.cat([torch.full_like(goal, 16.0), goal - 16.0])  # 12 and 6 levels from above
    assert counts_of(neuron, run(neuron, down))[1].flatten().tolist() == [-8, -16, -4, -8]


@pytest.mark.parametrize("dtype", [torch.float32, torch.double])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("levels", [1, 3, 16, 23, 256])
def test_multi_follows_its_rule_number_by_number(levels, signed, dtype):
    """Inputs of whole eighths of a level: every sum is exact in both types."""
    neuron = Multi(torch.tensor([1.0 * levels], dtype=dtype), levels, signed=signed)
    x = (torch.randn(30, 1, 40) * levels * 4).round().to(dtype) / 8
    least, tracer = -levels if signed else 0, [0] * 40
    for current, sent in zip(
        x.cumsum(0)[:, 0].tolist(), run(neuron, x)[:, 0].tolist(), strict=True
    ):
        for place, total in enumerate(current):
            share = min(max(total, least), levels)
            distance = math.floor(share + 0.5) - tracer[place]
            power = 0
            if distance:
                sign = 1 if distance > 0 else -1
                power = 2 ** (abs(distance).bit_length() - 1)
                beyond = sign * (share - tracer[place])  # decides where both are equally near
                nearer = (abs(distance), beyond) > (1.5 * power, 1.5 * power)
                if nearer and least <= tracer[place] + 2 * sign * power <= levels:
                    power *= 2
                power *= sign
            tracer[place] += power
            assert sent[place] == power


def test_stbif_walks_one_level_a_step():
    neuron = make("stbif", 16.0, 16)
    x = torch.zeros(12, 1, 1, dtype=torch.double)
    x[0], x[6] = 5.0, -3.0
    assert counts_of(neuron, run(neuron, x)).flatten().tolist() == [
        1,
        1,
        1,
        1,
        1,
        0,
        -1,
        -1,
        -1,
        0,
        0,
        0,
    ]


@pytest.mark.parametrize("kind", list(NEURONS))
def test_running_and_stream_input_give_the_same_spikes(kind):
    x = torch.randn(30, 2, 200, dtype=torch.double) + 0.3
    neuron = make(kind, 1.5, 8)
    stream = run(neuron, x)
    running = x.cumsum(0)
    if neuron.coding is RATE:
        running = running / torch.arange(1, 31).view(-1, 1, 1)
    neuron.running_input = True
    assert torch.equal(run(neuron, running), stream)
    assert stream.any()


@pytest.mark.parametrize("kind", list(NEURONS))
@pytest.mark.parametrize("running", [False, True])
def test_chunks_change_nothing(kind, running):
    x = torch.randn(12, 2, 3, 4, dtype=torch.double)
    neuron = make(kind, [0.5, 1.0, 2.0], 8)
    neuron.running_input = running
    whole = run(neuron, x)
    for chunks in ([1] * 12, [5, 4, 3], [11, 1]):
        assert torch.equal(run(neuron, x, chunks), whole)


@pytest.mark.parametrize("kind", list(NEURONS))
def test_reset_forgets(kind):
    x = torch.randn(5, 2, 3, dtype=torch.double)
    neuron = make(kind)
    first = run(neuron, x)
    run(neuron, torch.randn(9, 4, 7, dtype=torch.double))
    assert torch.equal(run(neuron, x), first)


@pytest.mark.parametrize("kind", list(NEURONS))
@pytest.mark.parametrize("axis, shape", [(1, (6, 2, 3, 4, 4)), (-1, (6, 2, 5, 3))])
def test_threshold_per_channel(kind, axis, shape):
    """Each channel behaves as a neuron of its own with its own threshold."""
    thresholds = [0.5, 1.0, 3.0]
    x = torch.randn(shape, dtype=torch.double) + 0.5
    along = 2 if axis == 1 else -1
    together = run(make(kind, thresholds, 8, axis), x)
    for channel, s in enumerate(thresholds):
        alone = run(make(kind, s, 8), x.select(along, channel).contiguous())
        assert torch.equal(together.select(along, channel), alone)


@pytest.mark.parametrize("kind", list(NEURONS))
def test_dead_channel_is_silent(kind):
    neuron = make(kind, [0.0, 1.0])
    sent = run(neuron, torch.full((6, 2, 2), 0.9).double())
    counts = counts_of(neuron, sent)
    assert not sent[..., 0].any() and not counts[..., 0].any()
    assert counts[..., 1].any() and torch.isfinite(sent).all()


@pytest.mark.parametrize("kind", list(NEURONS))
def test_integers_times_unit_is_what_was_sent(kind):
    neuron = make(kind, [0.3, 0.7, 1.9], 11)
    sent = run(neuron, torch.randn(30, 2, 3, dtype=torch.double))
    counts = counts_of(neuron, sent)
    assert not counts.dtype.is_floating_point
    torch.testing.assert_close(counts * neuron.unit, sent, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", list(NEURONS))
def test_large_levels_are_counted_without_overflow(kind):
    neuron = make(kind, 1.0, 65536)
    x = torch.zeros(40, 1, 1, dtype=torch.double)
    x[0] = 5.0
    counts = counts_of(neuron, run(neuron, x)).long()
    assert counts.sum() == {"if": 5, "stbif": 40, "multi": 65536}[kind]


def test_half_a_batch_is_refused():
    neuron = make("if")
    neuron.clock = Clock(0, 3, 4)
    with pytest.raises(ValueError, match="batch"):
        neuron(torch.zeros(10, 2))


def test_units_and_codings():
    threshold = torch.tensor([2.0])
    assert IF(threshold, 16).unit.item() == 2.0 and IF.coding is RATE
    for cls in (STBIF, Multi):
        assert cls(threshold, 16).unit.item() == 0.125 and cls.coding is CUMULATIVE
