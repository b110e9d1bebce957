"""QCFS against its closed form, and its gradient against the formulas in its docstring."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from spikeswap.neurons import QCFS, ClippedReLU


def formula(x, s, levels):
    return s * torch.floor(torch.clamp(x / s, 0, 1) * levels + 0.5) / levels


def threshold_gradient(site: QCFS) -> torch.Tensor:
    return site._parameters["threshold"].grad


@pytest.mark.parametrize("levels", [1, 3, 8, 16, 256])
def test_forward_is_the_published_formula(levels):
    x = torch.linspace(-3, 5, 1001, dtype=torch.double)
    site = QCFS(levels, 2.5).double()
    torch.testing.assert_close(site(x), formula(x, 2.5, levels), rtol=0, atol=1e-12)


def test_output_has_exactly_the_promised_levels():
    site = QCFS(4, 2.0)
    values = site(torch.linspace(-1, 3, 4001)).unique()
    assert values.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_steps_lie_half_a_level_off():
    """L = 4, s = 2: the first step is at s/(2L) = 0.25, and an edge belongs to the level above."""
    site = QCFS(4, 2.0)
    x = torch.tensor([0.2499, 0.25, 0.7499, 0.75, 1.7499, 1.75, 9.0])
    assert site(x).tolist() == [0.0, 0.5, 0.5, 1.0, 1.5, 2.0, 2.0]


@pytest.mark.parametrize(
    "shape, axis, along",
    [((3, 5), 1, 1), ((2, 5, 4, 4), 1, 1), ((2, 7, 5), -1, 2), ((2, 3, 7, 5), -1, 3)],
)
def test_threshold_per_channel_lies_along_its_axis(shape, axis, along):
    thresholds = torch.linspace(0.5, 2.0, 5, dtype=torch.double)
    x = 3 * torch.randn(shape, dtype=torch.double)
    y = QCFS(8, thresholds, axis)(x)
    for channel, s in enumerate(thresholds):
        torch.testing.assert_close(
            y.select(along, channel), formula(x.select(along, channel), s, 8), rtol=0, atol=1e-12
        )


def test_threshold_of_several_axes_broadcasts():
    thresholds = torch.tensor([0.5, 2.0], dtype=torch.double).view(2, 1, 1)
    x = torch.rand(3, 2, 4, 4, dtype=torch.double) * 3
    y = QCFS(8, thresholds)(x)
    torch.testing.assert_close(y[:, 0], formula(x[:, 0], 0.5, 8), rtol=0, atol=1e-12)
    torch.testing.assert_close(y[:, 1], formula(x[:, 1], 2.0, 8), rtol=0, atol=1e-12)


def test_gradient_of_the_input_is_one_inside_and_zero_outside_and_at_the_bounds():
    """The same on every version of PyTorch, whatever clamp does at its bounds."""
    x = torch.tensor([-1.0, 0.0, 1e-6, 0.1, 1.0, 1.999, 2.0, 3.0], requires_grad=True)
    QCFS(16, 2.0)(x).sum().backward()
    assert x.grad.tolist() == [0, 0, 1, 1, 1, 1, 0, 0]


def test_gradient_of_a_scalar_threshold():
    """dy/ds = y/s - x/s inside, 0 below, 1 above (at the bounds: 0 and 1)."""
    s = 2.0
    x = torch.tensor([-1.0, 0.0, 0.3, 1.1, 1.9, 2.0, 5.0], dtype=torch.double)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], dtype=torch.double)
    site = QCFS(4, s).double()
    (site(x) * weights).sum().backward()
    each = (formula(x, s, 4) - x) / s
    each[:2], each[-2:] = 0.0, 1.0
    torch.testing.assert_close(
        threshold_gradient(site), (weights * each).sum().reshape(1), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("axis", [1, -1])
def test_gradient_of_a_threshold_per_channel(axis):
    thresholds = torch.tensor([0.7, 1.3, 2.0], dtype=torch.double)
    shape = (2, 3, 5, 4) if axis == 1 else (2, 5, 3)
    x = 1.5 * torch.randn(shape, dtype=torch.double)
    weights = torch.randn(shape, dtype=torch.double)
    site = QCFS(8, thresholds, axis)
    (site(x) * weights).sum().backward()
    for channel, s in enumerate(thresholds):
        one, w = x.select(axis, channel), weights.select(axis, channel)
        inside = (formula(one, s, 8) - one) / s
        each = torch.where(one <= 0, 0.0, torch.where(one >= s, 1.0, inside))
        torch.testing.assert_close(
            threshold_gradient(site)[channel], (w * each).sum(), rtol=1e-10, atol=1e-12
        )


def test_gradient_of_a_threshold_of_several_axes_has_its_shape():
    site = QCFS(8, torch.rand(4, 1, 1) + 0.5)
    site(torch.randn(2, 4, 3, 3)).sum().backward()
    assert threshold_gradient(site).shape == (4, 1, 1)
    assert threshold_gradient(site).abs().min() > 0


@pytest.mark.parametrize("rate", [1e3, 1e9])
def test_threshold_stays_positive_after_a_huge_step(rate):
    site = QCFS(16, 2.0)
    optimizer = torch.optim.SGD(site.parameters(), lr=rate)
    site(torch.full((10,), 5.0)).sum().backward()  # pushes the threshold down
    optimizer.step()
    assert site._parameters["threshold"].item() < 0
    y = site(torch.tensor([5.0]))
    assert 0 < site.threshold.item() < 2.0
    assert y.item() == pytest.approx(site.threshold.item())
    assert site.state_dict()["threshold"].item() > 0


def sunk(thresholds=(2.0, 4.0)) -> QCFS:
    """A site whose first threshold an optimiser has pushed below its floor."""
    site = QCFS(8, torch.tensor(thresholds))
    site._parameters["threshold"].data[0] = -3.0
    return site


@pytest.mark.parametrize("training", [True, False])
def test_reading_the_threshold_writes_nothing(training):
    site = sunk().train(training)
    before, version = site._parameters["threshold"].clone(), site._parameters["threshold"]._version
    assert site.threshold.tolist() == [pytest.approx(0.05), 4.0]
    assert site.unit.tolist() == [pytest.approx(0.05 / 8), 0.5]
    str(site), ClippedReLU(site.threshold), site.state_dict()
    assert torch.equal(site._parameters["threshold"], before)
    assert site._parameters["threshold"]._version == version
    whole = QCFS(8, 2.0)
    assert whole.threshold is whole._parameters["threshold"]  # for optimisers, `.grad` and the like


def test_a_call_in_eval_mode_writes_nothing_and_uses_the_floor():
    site, x = sunk().eval(), torch.rand(6, 2)
    before = site._parameters["threshold"].clone()
    y = site(x)
    assert torch.equal(y, QCFS(8, torch.tensor([0.05, 4.0]))(x))
    assert torch.equal(site._parameters["threshold"], before)
    y.sum().backward()
    assert threshold_gradient(site)[0] != 0  # the optimiser can lift it again


def test_threads_that_evaluate_leave_the_parameter_alone():
    site, x = sunk().eval(), torch.rand(64, 2)
    before, expected = site._parameters["threshold"].clone(), site(x)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: (site.threshold.clone(), site(x)), range(200)))
    assert all(torch.equal(y, expected) and bool((s > 0).all()) for s, y in found)
    assert torch.equal(site._parameters["threshold"], before)


@pytest.mark.parametrize("start", [torch.tensor([0.7]), torch.tensor([0.5, 1.0, 2.0])])
def test_training_equals_clamping_by_hand_bit_by_bit(start):
    """Steps so large that thresholds hit their floors, against the formulas written out."""
    generator = torch.Generator().manual_seed(0)
    site, s, lowest = QCFS(4, start), start.clone(), start / 40
    optimizer = torch.optim.SGD(site.parameters(), lr=0.05)
    below = 0
    for _ in range(60):
        x, grad = (torch.randn(16, 3, generator=generator) * 2 for _ in range(2))
        optimizer.zero_grad()
        y = site(x)
        y.backward(grad)
        optimizer.step()

        below += int((s < lowest).any())
        s = s.clamp(min=lowest)
        share = (x / s).clamp(0, 1)
        level = (share * 4 + 0.5).floor() * (s / 4)
        inside = grad * ((share > 0) & (share < 1))
        if len(start) == 1:
            up, down = ((a.flatten() @ b.flatten()) for a, b in ((grad, level), (inside, share)))
        else:
            up, down = (grad * level).sum(0), (inside * share).sum(0)
        assert torch.equal(y, level)
        s = s.add(up / s - down, alpha=-0.05)
        assert torch.equal(site._parameters["threshold"].detach(), s)
    assert below > 3


def test_training_moves_the_threshold_to_the_best_clip():
    """One site that must reproduce clip(x, 0, 1): its threshold is learned from 2 to near 1."""
    site = QCFS(16, 2.0)
    optimizer = torch.optim.Adam(site.parameters(), lr=0.02)
    for _ in range(200):
        x = 3 * torch.rand(512)
        loss = (site(x) - x.clamp(0, 1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert site.threshold.item() == pytest.approx(1.0, abs=0.05)


def test_dead_channel_gives_zero_and_no_nan():
    site = QCFS(16, torch.tensor([0.0, 1.0]))
    x = torch.tensor([[5.0, 5.0], [-1.0, 0.4], [0.0, 0.0]], requires_grad=True)
    y = site(x)
    assert y[:, 0].tolist() == [0.0, 0.0, 0.0]
    assert y[0, 1].item() == 1.0
    y.sum().backward()
    assert torch.isfinite(x.grad).all() and torch.isfinite(threshold_gradient(site)).all()


def test_unit_is_one_level():
    site = QCFS(8, torch.tensor([2.0, 4.0]))
    assert site.unit.tolist() == [0.25, 0.5]
    assert not site.unit.requires_grad


def test_set_threshold_takes_another_shape_and_stays_trainable():
    site = QCFS(8, 2.0)
    site.set_threshold(torch.tensor([1.0, 3.0, 5.0]))
    assert site.threshold.tolist() == [1.0, 3.0, 5.0]
    assert site.threshold.requires_grad and dict(site.named_parameters())["threshold"].numel() == 3


def test_state_dict_round_trip_gives_the_same_numbers():
    first = QCFS(8, torch.tensor([0.3, 1.7]))
    second = QCFS(8, torch.tensor([2.0, 2.0]))
    second.load_state_dict(first.state_dict())
    x = torch.randn(5, 2)
    assert torch.equal(first(x), second(x))


@pytest.mark.parametrize("levels", [0, -1, 1.5, True])
def test_impossible_levels_are_refused(levels):
    with pytest.raises(ValueError, match="levels"):
        QCFS(levels)


@pytest.mark.parametrize("threshold", [-1.0, float("nan"), float("inf"), torch.tensor([1.0, -0.1])])
def test_impossible_thresholds_are_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        QCFS(16, threshold)


def test_clipped_relu_is_the_limit_of_many_levels():
    x = torch.linspace(-1, 3, 1001, dtype=torch.double)
    fine = QCFS(2**20, 2.0).double()
    clip = ClippedReLU(torch.tensor([2.0], dtype=torch.double))
    torch.testing.assert_close(fine(x), clip(x), rtol=0, atol=2.0 / 2**20)
    assert torch.equal(clip(x), x.clamp(0, 2))
