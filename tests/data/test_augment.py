"""Augmentation against hand-made answers."""

import pytest
import torch

from spikeswap.data import load_dataset
from spikeswap.data.augment import crop_flip, digits, draw_numbers


def numbers(**columns):
    """One row of random numbers: 0.5 leaves an image as it is."""
    row = torch.full((1, 4), 0.5)
    for column, value in columns.items():
        row[0, int(column[1:])] = value
    return row


def test_middle_numbers_leave_digits_alone():
    image = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(digits(image, numbers()), image, rtol=0, atol=1e-5)


def test_digits_shift_by_two_pixels_of_32():
    image = torch.zeros(1, 1, 32, 32)
    image[0, 0, 10, 20] = 1
    moved = digits(image, numbers(_2=1.0, _3=0.0))
    place = moved[0, 0].flatten().argmax().item()
    assert (place // 32, place % 32) == (8, 22)
    assert moved[0, 0, 8, 22] > 0.99


def test_digits_rotate_by_twelve_degrees():
    image = torch.zeros(1, 1, 65, 65)
    image[0, 0, 32, 56] = 1  # 24 pixels right of the centre
    turned = digits(image, numbers(_0=1.0))[0, 0]
    rows, columns = torch.meshgrid(torch.arange(65.0), torch.arange(65.0), indexing="ij")
    row, column = (turned * rows).sum() / turned.sum(), (turned * columns).sum() / turned.sum()
    angle = torch.atan2((row - 32).abs(), column - 32).rad2deg()
    assert abs(angle - 12) < 0.5


def test_digits_scale_by_twelve_percent():
    image = torch.zeros(1, 1, 64, 64)
    image[..., 16:48, 16:48] = 1
    areas = [digits(image, numbers(_1=value)).sum() / image.sum() for value in (0.0, 1.0)]
    torch.testing.assert_close(
        torch.tensor(areas), torch.tensor([0.88, 1.12]) ** 2, rtol=0.02, atol=0
    )


def test_crop_flip_is_an_exact_window():
    image = torch.arange(2 * 32 * 32.0).view(1, 2, 32, 32) + 1
    assert torch.equal(crop_flip(image, numbers(_2=0.0)), image)
    assert torch.equal(crop_flip(image, numbers(_2=0.9)), image.flip(-1))
    corner = crop_flip(image, numbers(_0=0.0, _1=0.0, _2=0.0))
    assert torch.equal(corner[..., 4:, 4:], image[..., :28, :28])
    assert corner[..., :4, :].eq(0).all() and corner[..., :4].eq(0).all()


def test_numbers_hang_on_seed_and_epoch_only():
    assert torch.equal(draw_numbers(5, 1, 2), draw_numbers(5, 1, 2))
    assert not torch.equal(draw_numbers(5, 1, 2), draw_numbers(5, 1, 3))
    assert not torch.equal(draw_numbers(5, 1, 2), draw_numbers(5, 2, 2))


OFF = {"scale": (1, 1), "ratio": (1, 1), "hflip": 0.0, "auto_augment": None, "color_jitter": 0.0}


def test_timm_s_transform_without_its_random_parts_is_the_image():
    bundle = load_dataset("fake", img_size=32)
    plain = bundle.train_augmented("imagenet", timm_options={**OFF, "re_prob": 0.0})
    for position in range(3):
        torch.testing.assert_close(plain[position][0], bundle.train[position][0], rtol=0, atol=1e-5)
    erased = bundle.train_augmented("imagenet", timm_options={**OFF, "re_prob": 1.0})
    assert not torch.allclose(erased[0][0], bundle.train[0][0], atol=1e-3)
    mirrored = bundle.train_augmented(
        "imagenet", timm_options={**OFF, "re_prob": 0.0, "hflip": 1.0}
    )
    torch.testing.assert_close(mirrored[0][0], bundle.train[0][0].flip(-1), rtol=0, atol=1e-5)


def test_an_augmentation_that_timm_cannot_read():
    bundle = load_dataset("fake", img_size=32)
    with pytest.raises(ValueError, match="DATA.RAND_AUGMENT such as rand-m9"):
        bundle.train_augmented("imagenet", timm_options={"auto_augment": "rnd-m9"})
