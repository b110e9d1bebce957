"""Random spike masks: the right share, independent bits, and numbers that belong to an image."""

import math

import pytest
import torch

from spikeswap.neurons import Clock, SeededMask, SpikeMask
from spikeswap.neurons.mask import SCALINGS, bernoulli, check_ratio

RATIOS = [0.1, 0.3, 0.5, 0.75, 0.9, 0.999]


def keep(site="a", ratio=0.75, seed=0, steps=range(4), images=range(4), count=5000):
    return SeededMask(site, ratio, "none", seed, frozen=False).keep(steps, images, count)


def within(share, expected, n, sigmas=4):
    """Of n coins with this chance, the share that fell; 4 sigma: one false alarm in 16,000."""
    return abs(share - expected) <= sigmas * math.sqrt(expected * (1 - expected) / n)


def agreement(a, b):
    return (a == b).double().mean().item()


@pytest.mark.parametrize("ratio", RATIOS)
def test_share_that_is_masked_is_the_ratio(ratio):
    kept = keep(ratio=ratio)
    assert within(1 - kept.double().mean().item(), ratio, kept.numel())
    for t in range(4):  # and in every step and image apart
        for b in range(4):
            assert within(1 - kept[t, b].double().mean().item(), ratio, 5000, 4.5)


def test_ratio_zero_keeps_all():
    """Also those 2^-24 that `rand() > 0` would drop."""
    assert keep(ratio=0.0, count=200_000).all()


@pytest.mark.parametrize("what", ["step", "image", "site", "seed"])
def test_masks_of_other_steps_images_sites_and_seeds_are_independent(what):
    kept = keep()
    other = {
        "step": keep(steps=range(4, 8)),
        "image": keep(images=range(4, 8)),
        "site": keep(site="b"),
        "seed": keep(seed=1),
    }[what]
    expected = 0.75**2 + 0.25**2  # that two independent masks agree
    assert within(agreement(kept, other), expected, kept.numel())


@pytest.mark.parametrize("ratio", [0.25, 0.3, 0.5, 0.75])
def test_bits_are_independent_of_their_neighbours(ratio):
    """Pairs at distances inside a word, across words, and across keys."""
    kept = keep(ratio=ratio, steps=range(8), images=range(8), count=4096)
    p = 1 - ratio
    expected = p**2 + (1 - p) ** 2
    for distance in (1, 2, 7, 8, 31, 63, 64, 65, 128, 1024):
        a, b = kept[..., :-distance], kept[..., distance:]
        assert within(agreement(a, b), expected, a.numel(), 4.5), distance
    assert within(agreement(kept[1:], kept[:-1]), expected, kept[1:].numel())
    assert within(agreement(kept[:, 1:], kept[:, :-1]), expected, kept[:, 1:].numel())


def test_every_place_of_a_word_is_masked_alike():
    kept = keep(ratio=0.75, steps=range(50), images=range(50), count=64).double().mean((0, 1))
    assert all(within(share, 0.25, 2500, 4.5) for share in kept.tolist())


@pytest.mark.parametrize("count", [1, 7, 63, 64, 65, 1000])
def test_bernoulli_has_the_asked_shape(count):
    assert bernoulli(torch.arange(6).view(2, 3), 0.5, count).shape == (2, 3, count)


def test_a_longer_mask_starts_with_the_shorter_one():
    keys = torch.arange(5)
    assert torch.equal(bernoulli(keys, 0.25, 300)[:, :70], bernoulli(keys, 0.25, 70))


def apply(mask, x_TB, first_index=0, chunks=None):
    out, start = [], 0
    for steps in chunks or [len(x_TB)]:
        mask.clock = Clock(start, steps, x_TB.shape[1], first_index)
        part = x_TB[start : start + steps]
        out.append(mask(part.flatten(0, 1)).view(part.shape))
        start += steps
    return torch.cat(out)


@pytest.mark.parametrize("frozen", [False, True])
def test_masks_belong_to_images_not_to_places(frozen):
    x = torch.ones(6, 5, 3, 4, 4)
    mask = SeededMask("site", 0.5, "none", 3, frozen)
    whole = apply(mask, x, first_index=10)
    split = torch.cat([apply(mask, x[:, :2], 10), apply(mask, x[:, 2:], 12)], 1)
    assert torch.equal(whole, split)
    assert not torch.equal(whole, apply(mask, x, first_index=11))


@pytest.mark.parametrize("frozen", [False, True])
def test_chunks_change_no_mask(frozen):
    x = torch.ones(7, 2, 9)
    mask = SeededMask("site", 0.5, "none", 0, frozen)
    assert torch.equal(apply(mask, x), apply(mask, x, chunks=[1, 4, 2]))


def test_frozen_masks_are_equal_in_every_step_and_fresh_ones_are_not():
    x = torch.ones(5, 2, 400)
    frozen = apply(SeededMask("site", 0.5, "none", 0, True), x)
    assert (frozen == frozen[0]).all()
    fresh = apply(SeededMask("site", 0.5, "none", 0, False), x)
    assert (fresh != fresh[0]).any(-1).flatten(1)[1:].all()


def test_windows_of_an_image_have_masks_of_their_own():
    """Attention has [B * windows, ...]: the mask covers all of an image's windows."""
    x = torch.ones(3, 2 * 4, 6)
    mask = SeededMask("site", 0.5, "none", 0, False)
    mask.clock = Clock(0, 3, 2)
    out = mask(x.flatten(0, 1)).view(3, 2, 4, 6)
    mask.clock = Clock(0, 3, 1)
    alone = mask(x[:, :4].flatten(0, 1)).view(3, 1, 4, 6)
    assert torch.equal(out[:, :1], alone)
    assert not torch.equal(out[:, :, 0], out[:, :, 1])


def test_kept_values_are_untouched_or_scaled():
    x = torch.rand(4, 2, 50) + 1
    plain = apply(SeededMask("site", 0.75, "none", 0, False), x)
    scaled = apply(SeededMask("site", 0.75, "inverse", 0, False), x)
    kept = plain != 0
    assert torch.equal(plain[kept], x[kept])
    torch.testing.assert_close(scaled, 4 * plain)


def test_trainable_mask_is_random_in_training_and_its_expectation_in_evaluation():
    x = torch.ones(100_000)
    mask = SpikeMask(0.75)
    out = mask.train()(x)
    assert within((out == 0).double().mean().item(), 0.75, x.numel())
    assert not torch.equal(out, mask(x))
    assert set(out.unique().tolist()) == {0.0, 1.0}
    assert (mask.eval()(x) == 0.25).all() and mask.expectation == 0.25
    inverse = SpikeMask(0.75, "inverse")
    assert set(inverse.train()(x).unique().tolist()) == {0.0, 4.0}
    assert (inverse.eval()(x) == 1.0).all() and inverse.expectation == 1.0


def test_trainable_mask_follows_the_generator_of_torch():
    mask = SpikeMask(0.5).train()
    torch.manual_seed(7)
    first = mask(torch.ones(100))
    torch.manual_seed(7)
    assert torch.equal(mask(torch.ones(100)), first)


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 2, float("nan"), float("inf")])
def test_impossible_ratios_are_refused(ratio):
    with pytest.raises(ValueError, match="ratio"):
        check_ratio(ratio)


def test_unknown_scaling_lists_the_known_ones():
    with pytest.raises(ValueError, match="none, inverse"):
        SCALINGS.check("half")
