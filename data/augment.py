"""Random augmentation of training images, a whole batch at once.

Every image of an epoch has its own row of random numbers, so what happens to an image depends
on (seed, epoch, image) and neither on the batch nor on the process that it is in.
"""

import math
import random

import numpy as np
import torch
from torch.nn.functional import affine_grid, grid_sample, pad

from .preparation import IMAGENET_MEAN, IMAGENET_STD, Preparation
from .randomness import keyed_generator, keyed_seed

DIGIT_DEGREES = 12.0  # rotation, either way
DIGIT_SCALE = 0.12  # relative change of size, either way
DIGIT_SHIFT = 2 / 32  # share of the image's side, either way: 2 px of 32
CROP_MARGIN = 4 / 32  # share of the image's side that a crop may move, either way: 4 px of 32
_NUMBERS = 4  # random numbers per image and epoch


def draw_numbers(count: int, seed: int, epoch: int) -> torch.Tensor:
    """Uniform random numbers in [0, 1) for all images of an epoch, [count, 4]."""
    return torch.rand(count, _NUMBERS, generator=keyed_generator(seed, epoch, "augment"))


def digits(images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Rotate, scale and shift; the border is black. Images [B, C, H, W], numbers [B, 4]."""
    angle, scale, shift_x, shift_y = (numbers * 2 - 1).unbind(1)
    angle = angle * math.radians(DIGIT_DEGREES)
    scale = 1 / (1 + scale * DIGIT_SCALE)
    shift = torch.stack([shift_x, shift_y], 1) * (2 * DIGIT_SHIFT)  # the grid spans [-1, 1]
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    rotation = torch.stack([cosine, -sine, sine, cosine], 1).view(-1, 2, 2)
    offset = -(rotation @ shift[:, :, None])
    grid = affine_grid(torch.cat([rotation, offset], 2), list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="zeros", align_corners=False)


def crop_flip(images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Pad with black, cut a window of the old size, mirror every other one. Exact pixels."""
    size = images.shape[-1]
    margin = max(1, round(size * CROP_MARGIN))
    padded = pad(images, (margin,) * 4)
    starts = (numbers[:, :2] * (2 * margin + 1)).long()
    steps = torch.arange(size)
    rows = starts[:, :1] + steps
    columns = starts[:, 1:] + torch.where(numbers[:, 2:3] < 0.5, steps, steps.flip(0))
    batch = torch.arange(len(images))[:, None, None]
    return padded[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


IMAGENET_RECIPE = {
    "auto_augment": "rand-m9-mstd0.5-inc1",
    "interpolation": "bicubic",
    "re_prob": 0.25,
}
BATCHED = {"digits": digits, "crop-flip": crop_flip}
KINDS = ("none", *BATCHED, "imagenet")


class ImageNetAugmentation:
    """timm's recipe: random resized crop, flip, RandAugment, random erasing; one PIL image.

    Args:
        options: arguments of timm's `create_transform` that differ from the recipe for ImageNet.

    Raises:
        ValueError: an AutoAugment string that timm cannot read.
    """

    def __init__(self, preparation: Preparation, **options):
        from timm.data import create_transform

        self.preparation = preparation
        options = {**IMAGENET_RECIPE, **options}
        try:
            self.transform = create_transform(
                preparation.img_size,
                is_training=True,
                mean=IMAGENET_MEAN,
                std=IMAGENET_STD,
                **options,
            )
        except (AssertionError, ValueError, KeyError) as error:
            raise ValueError(
                f"timm cannot read the augmentation {options['auto_augment']!r} ({error}); give "
                "DATA.RAND_AUGMENT such as rand-m9-mstd0.5-inc1, or '' for none"
            ) from error

    def __call__(self, picture, *key) -> torch.Tensor:
        """Normalised float32 [in_chans, S, S]; the key (seed, epoch, index) fixes the result.

        The global generators that timm draws from are put back as they were.
        """
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        seed = keyed_seed(*key, "imagenet")
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        try:
            image = self.transform(picture.convert("RGB"))
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_rng_state(states[2])
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        image = image * std[:, None, None] + mean[:, None, None]
        if self.preparation.in_chans == 1:
            image = image.mean(0, keepdim=True)
        return self.preparation.normalise(image[None])[0]
