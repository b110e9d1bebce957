"""Where stored images come from: one tensor in memory, or files read when asked for."""

from collections.abc import Sequence

import torch

from .files import read_image

MOST_PIXELS = 2**26  # of a resized picture (256 MiB); of a longer one only the centre is made


class MemoryImages:
    """All images of a split as one tensor.

    Args:
        images: uint8 [N, C, H, W].
        labels: class numbers, int64 [N].
    """

    in_memory = True

    def __init__(self, images: torch.Tensor, labels: torch.Tensor):
        assert images.dtype == torch.uint8 and images.ndim == 4, (images.dtype, images.shape)
        assert len(images) == len(labels), (len(images), len(labels))
        self.images, self.labels = images, labels.to(torch.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def fetch(self, indices: Sequence[int]) -> torch.Tensor:
        """uint8 [B, C, H, W] of those images."""
        return self.images[torch.as_tensor(indices, dtype=torch.int64)]

    def picture(self, index: int):
        """One image as a PIL image."""
        from torchvision.transforms.functional import to_pil_image

        return to_pil_image(self.images[index])


class FileImages:
    """Images in files, decoded on demand.

    Args:
        paths: one file per image.
        labels: class numbers, int64 [N].
        channels: 1 or 3, what every file is decoded to.
        img_size: side of the square that `fetch` gives, in pixels.
        resize_ratio: the shorter side becomes `img_size * resize_ratio`, then the centre is cut.
        upright: turn photographs upright by their EXIF note.
    """

    in_memory = False

    def __init__(self, paths, labels, channels, img_size, resize_ratio=1.0, upright=True):
        self.paths, self.labels = list(paths), torch.as_tensor(labels, dtype=torch.int64)
        self.channels, self.img_size = channels, img_size
        self.resize_ratio, self.upright = resize_ratio, upright
        self.interpolation = "bilinear"  # or "bicubic"

    def __len__(self) -> int:
        return len(self.paths)

    def fetch(self, indices: Sequence[int]) -> torch.Tensor:
        """uint8 [B, C, img_size, img_size] of those images."""
        return torch.stack([self._square(int(index)) for index in indices])

    def picture(self, index: int):
        """One image as a PIL image of its own size."""
        return read_image(self.paths[index], self.channels, self.upright)

    def _square(self, index: int) -> torch.Tensor:
        from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

        picture = self.picture(index)
        shorter = round(self.img_size * self.resize_ratio)
        if shorter**2 * max(picture.size) > MOST_PIXELS * min(picture.size):
            picture = _centre(picture, shorter, self.img_size, self.interpolation)
        elif min(picture.size) != shorter:
            picture = resize(picture, shorter, interpolation=_mode(self.interpolation))
        return pil_to_tensor(center_crop(picture, self.img_size))


def _centre(picture, shorter: int, side: int, interpolation: str):
    """The centre of the picture as it is when resized, without its other parts, [side, side]."""
    from PIL import Image

    sides = [int(shorter * length / min(picture.size)) for length in picture.size]
    starts = [round((length - side) / 2) for length in sides]
    corners = [
        pixel * length / resized
        for pixels in (starts, [start + side for start in starts])
        for pixel, length, resized in zip(pixels, picture.size, sides, strict=True)
    ]
    return picture.resize((side, side), Image.Resampling[interpolation.upper()], box=corners)


def _mode(name: str):
    from torchvision.transforms import InterpolationMode

    return InterpolationMode(name)
