"""From stored bytes to what a network sees: size, channels, normalisation. Whole batches."""

from dataclasses import dataclass

import torch
from torch.nn.functional import interpolate, pad

from ..support.whole_numbers import whole_number

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preparation:
    """How a data set's images become network inputs.

    Attributes:
        img_size: side of the square input in pixels.
        in_chans: 1 or 3; grey is repeated, colour becomes luma.
        mean, std: of each stored channel, for pixels in [0, 1].
        pad_up_to: an image at most this many pixels smaller than `img_size` is padded with black
            (28 -> 32 keeps a digit's strokes); any other size is resized.
    """

    img_size: int
    in_chans: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad_up_to: int = 0

    def unit_range(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [B, stored channels, h, w] -> float32 [B, in_chans, S, S] in [0, 1]."""
        images = images.to(torch.float32).div_(255)
        if images.shape[1] == 3 and self.in_chans == 1:
            images = (images * images.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
        images = fit(images, self.img_size, self.pad_up_to)
        return images.repeat(1, 3, 1, 1) if images.shape[1] < self.in_chans else images

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Subtract the mean and divide by the standard deviation, in place; [B, C, H, W]."""
        mean, std = self.channel_statistics()
        return images.sub_(mean[:, None, None]).div_(std[:, None, None])

    def channel_statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of each input channel, [in_chans] each."""
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        if len(mean) == self.in_chans:
            return mean, std
        if self.in_chans == 3:
            return mean.repeat(3), std.repeat(3)
        return (mean * torch.tensor(_LUMA)).sum()[None], std.mean()[None]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [B, stored channels, h, w] -> normalised float32 [B, in_chans, S, S]."""
        return self.normalise(self.unit_range(images))


def fit(images: torch.Tensor, size: int, pad_up_to: int = 0) -> torch.Tensor:
    """Pad by at most `pad_up_to` pixels with 0, or resize bilinearly, to [B, C, size, size]."""
    height, width = images.shape[-2:]
    missing = (size - height, size - width)
    if missing == (0, 0):
        return images
    if all(0 <= pixels <= pad_up_to for pixels in missing):
        top, left = missing[0] // 2, missing[1] // 2
        return pad(images, (left, missing[1] - left, top, missing[0] - top))
    shape = (size, size)
    images = interpolate(images, shape, mode="bilinear", align_corners=False, antialias=True)
    return images.clamp_(0, 1)


def check_img_size(img_size, native: int) -> int:
    """`img_size`, or `native` for None or 0; ValueError for what is no size."""
    pixels = 0 if img_size is None else whole_number("img_size", img_size, 0, 8192, " (pixels)")
    return pixels or native


def check_in_chans(in_chans, native: int) -> int:
    """`in_chans`, or `native` for None or 0; ValueError for anything but 1 and 3."""
    channels = 0 if in_chans is None else whole_number("in_chans", in_chans, 0, 3)
    if channels == 2:
        raise ValueError(f"in_chans is {in_chans!r}, but images have 1 (grey) or 3 (colour)")
    return channels or native
