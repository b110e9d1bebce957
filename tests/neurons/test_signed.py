"""Signed QCFS and the neurons that stand for it, against closed forms."""

import math

import pytest
import torch

from spikeswap.neurons import IF, QCFS, STBIF, Clock, IncrementalProduct, Multi, quantise


def by_hand(x: float, s: float, levels: int) -> float:
    """s * floor(clip(x / s, -1, 1) * L + 1/2) / L, one number after the other."""
    share = max(-1.0, min(1.0, x / s)) if s > 0 else 0.0
    return s * math.floor(share * levels + 0.5 + 1e-9) / levels


@pytest.mark.parametrize("levels", [1, 2, 7, 16])
def test_signed_qcfs_is_its_formula(levels):
    x = torch.randn(200, dtype=torch.double) * 2
    x[:5] = torch.tensor([0.0, -0.7, 0.7, -0.35, 0.35], dtype=torch.double)  # ends and ties
    site = QCFS(levels, torch.tensor([0.7], dtype=torch.double), signed=True).eval()
    expected = [by_hand(float(v), 0.7, levels) for v in x]
    torch.testing.assert_close(
        site(x), torch.tensor(expected, dtype=torch.double), rtol=0, atol=1e-15
    )


def test_a_threshold_for_each_channel_and_dead_channels():
    s = torch.tensor([0.5, 0.0, 2.0], dtype=torch.double)
    site = QCFS(4, s, axis=-1, signed=True).eval()
    x = torch.randn(5, 6, 3, dtype=torch.double) * 3
    y = site(x)
    for channel in range(3):
        expected = [by_hand(float(v), float(s[channel]), 4) for v in x[..., channel].flatten()]
        assert y[..., channel].flatten().tolist() == pytest.approx(expected, abs=1e-15)
    assert bool((y[..., 1] == 0).all())


def test_gradients_are_the_unsigned_ones_mirrored():
    """dy/dx is 1 inside (-s, s); dy/ds is y/s - x/s inside and the clipped level outside."""
    x = torch.tensor([-3.0, -0.9, -0.2, 0.3, 0.8, 2.0], dtype=torch.double, requires_grad=True)
    site = QCFS(4, torch.tensor([1.0], dtype=torch.double), signed=True)
    site(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 0]
    inside = x.detach()[1:5]
    level = torch.floor(inside * 4 + 0.5) / 4
    expected = float((level - inside).sum()) - 1 + 1
    assert float(site.threshold.grad) == pytest.approx(expected, abs=1e-12)


def test_the_threshold_of_a_followed_site_is_learnt_once():
    first, second = QCFS(4, 1.0, signed=True), QCFS(4, 3.0, signed=True)
    second.take_over(first)
    (first(torch.tensor([2.0])) + second(torch.tensor([2.0]))).sum().backward()
    assert second.threshold is first.threshold and float(first.threshold.grad) == 2.0


def run(neuron, x: torch.Tensor, running: bool, chunk: int) -> torch.Tensor:
    """What a neuron sends for the running sums or the currents x [T, B, ...]."""
    clock = Clock()
    neuron.clock, neuron.running_input = clock, running
    clock.batch, sent = x.shape[1], []
    for start in range(0, len(x), chunk):
        part = x[start : start + chunk]
        clock.start, clock.steps = start, len(part)
        sent.append(neuron(part.flatten(0, 1)).view(part.shape))
    return torch.cat(sent)


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("kind", [STBIF, Multi])
@pytest.mark.parametrize("levels", [1, 5, 16])
def test_the_sum_stays_in_bounds_and_ends_at_the_level(kind, levels, running):
    steps = 2 * levels + 30
    sums = torch.randn(12, 3, 4, dtype=torch.double).cumsum(0)
    sums = torch.cat((sums, sums[-1:].expand(steps, -1, -1)))  # unrest, then rest
    x = sums if running else torch.diff(sums, dim=0, prepend=torch.zeros_like(sums[:1]))
    s = torch.tensor([0.9], dtype=torch.double)
    neuron = kind(s, levels, signed=True)
    sent = run(neuron, x, running, chunk=7)
    counts = sent / neuron.unit
    assert bool(((counts - counts.round()).abs() < 1e-9).all())
    assert {int(v) for v in counts.round().unique()} <= set(neuron.alphabet)
    total = counts.cumsum(0).round()
    assert float(total.abs().max()) <= levels
    assert torch.equal(total[-1], quantise(sums[-1], s, levels, signed=True))
    again = kind(s, levels, signed=True)
    assert torch.equal(run(again, x, running, chunk=1), sent)


def test_a_jump_over_the_whole_range_is_one_spike():
    """From -L to L: 2 L levels are a power of two for L = 16, and in the alphabet."""
    x = torch.tensor([-9.0, 9.0], dtype=torch.double).view(2, 1, 1)
    neuron = Multi(torch.tensor([1.0], dtype=torch.double), 16, signed=True)
    sent = run(neuron, x, True, chunk=2)
    assert (sent / neuron.unit).flatten().tolist() == [-16, 32] and 32 in neuron.alphabet


def test_unsigned_neurons_never_go_below_zero():
    x = torch.full((9, 2, 3), -4.0, dtype=torch.double)
    for kind in (STBIF, Multi):
        assert not bool(run(kind(torch.ones(1).double(), 4), x, True, 3).any())


def test_if_has_no_signed_form():
    with pytest.raises(AssertionError):
        IF(torch.ones(1), 4, signed=True)


PRODUCTS = {
    "matmul": (torch.matmul, (2, 3, 4, 5), (2, 3, 5, 6)),
    "broadcast": (torch.matmul, (2, 3, 4, 5), (2, 1, 5, 6)),
    "mul": (torch.mul, (2, 3, 4), (2, 3, 1)),
    "einsum": (lambda a, b: torch.einsum("bnc,bmc->bnm", a, b), (2, 4, 5), (2, 3, 5)),
}


@pytest.mark.parametrize("chunk", [1, 3, 8])
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_by_increments_are_the_dense_ones_in_every_step(name, chunk):
    """For sums S(t) = Q(t) K(t); for means (rate coding) S / t^2 is the product of the means."""
    product, left, right = PRODUCTS[name]
    q, k = (torch.randint(-2, 3, (8, *shape)).double() * 0.3 for shape in (left, right))
    clock = Clock()
    module = IncrementalProduct(product)
    module.clock, clock.batch, out = clock, left[0], []
    for start in range(0, 8, chunk):
        a, b = q[start : start + chunk], k[start : start + chunk]
        clock.start, clock.steps = start, len(a)
        out.append(module(a.flatten(0, 1), b.flatten(0, 1)).unflatten(0, (len(a), -1)))
    found, sums = torch.cat(out), (q.cumsum(0), k.cumsum(0))
    for t in range(8):
        expected = product(sums[0][t], sums[1][t])
        torch.testing.assert_close(found[t], expected, rtol=0, atol=1e-12)
        means = product(sums[0][t] / (t + 1), sums[1][t] / (t + 1))
        torch.testing.assert_close(found[t] / (t + 1) ** 2, means, rtol=0, atol=1e-12)


def test_a_float32_value_in_a_float64_network_stays_float32():
    site = QCFS(4, torch.tensor([1.0], dtype=torch.double), signed=True)
    assert site(torch.randn(3)).dtype is torch.float32
    assert site(torch.randn(3, dtype=torch.double)).dtype is torch.float64
    assert QCFS(4, 1.0)(torch.randn(3).bfloat16()).dtype is torch.float32  # as autocast has it
