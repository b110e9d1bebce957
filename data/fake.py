"""Generated images for smoke tests: learnable, and worth nothing beyond that."""

import torch
from torch.nn.functional import interpolate

from .bundle import DataBundle, Split
from .preparation import Preparation, check_img_size, check_in_chans
from .randomness import keyed_generator
from .sources import MemoryImages

NATIVE_SIZE = 32  # pixels
CLASSES = 10
SIZES = {"train": 256, "val": 64}


def load_fake(folder, img_size, in_chans, download) -> DataBundle:
    """Ten fixed coarse patterns under noise, 256 + 64 images of 3 x 32 x 32."""
    preparation = Preparation(
        check_img_size(img_size, NATIVE_SIZE), check_in_chans(in_chans, 3), (0.5,) * 3, (0.25,) * 3
    )
    coarse = torch.rand(CLASSES, 3, 4, 4, generator=keyed_generator("fake", "patterns"))
    patterns = interpolate(coarse, (NATIVE_SIZE, NATIVE_SIZE), mode="bilinear")
    splits = {part: Split(_images(patterns, part), None, preparation) for part in SIZES}
    return DataBundle(
        name="fake",
        train=splits["train"],
        val=splits["val"],
        num_classes=CLASSES,
        in_chans=preparation.in_chans,
        img_size=preparation.img_size,
        class_names=[f"pattern {number}" for number in range(CLASSES)],
        note="generated images, for smoke tests only: no accuracy on them means anything",
        default_augment="none",
    )


def _images(patterns: torch.Tensor, part: str) -> MemoryImages:
    generator = keyed_generator("fake", part)
    labels = torch.arange(SIZES[part]) % CLASSES
    noise = torch.randn(len(labels), *patterns.shape[1:], generator=generator) * 0.2
    pixels = (patterns[labels] + noise).clamp(0, 1)
    return MemoryImages((pixels * 255).round().to(torch.uint8), labels)
