"""Geometry of Swin Transformers: patch grid, windows, shifts, relative positions, merging."""

import dataclasses

import torch
from torch import Tensor


class PatchGrid:
    """Sides of the token grids of all stages, or ValueError when the image does not divide."""

    def __init__(self, img_size: int, patch_size: int, stages: int):
        step = patch_size * 2 ** (stages - 1)
        if not isinstance(img_size, int) or img_size <= 0 or img_size % step:
            below = max(step, int(img_size) // step * step)
            raise ValueError(
                f"img_size {img_size} is not a multiple of {step} (patch {patch_size} x 2 for each "
                f"of {stages - 1} mergings); near sizes that work: {below}, {below + step}"
            )
        self.img_size = img_size
        self.resolutions = [img_size // patch_size // 2**i for i in range(stages)]


def choose_window(grid: PatchGrid, window_size: int | None) -> int:
    """The window to use: the given one if it fits, else the largest up to 7 that does.

    A window fits when it divides every grid that is larger than itself; a smaller grid is one
    window.
    """
    fits = [
        w
        for w in range(1, max(grid.resolutions) + 1)
        if all(side <= w or side % w == 0 for side in grid.resolutions)
    ]
    if window_size is None:
        return max(w for w in fits if w <= 7)
    if window_size < 1 or not all(
        s <= window_size or s % window_size == 0 for s in grid.resolutions
    ):
        raise ValueError(
            f"window_size {window_size} does not divide the token grids {grid.resolutions} of "
            f"img_size {grid.img_size}; windows that fit: {', '.join(map(str, fits))}"
        )
    return window_size


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows of one block on a grid of `resolution` x `resolution` tokens.

    Attributes:
        side: tokens on a side of a window.
        shift: tokens that the grid is rolled by before it is cut.
    """

    resolution: int
    side: int
    shift: int

    @classmethod
    def of_block(cls, resolution: int, window_size: int, shifted: bool) -> "Windows":
        """A grid that is not larger than the window is one window and is not shifted."""
        if resolution <= window_size:
            return cls(resolution, resolution, 0)
        return cls(resolution, window_size, window_size // 2 if shifted else 0)

    def split(self, x: Tensor) -> Tensor:
        """Tokens [B, R * R, C] to windows [B * windows, side * side, C]."""
        channels, per_side = x.shape[-1], self.resolution // self.side
        x = x.reshape(-1, self.resolution, self.resolution, channels)
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = x.reshape(-1, per_side, self.side, per_side, self.side, channels)
        return x.transpose(2, 3).reshape(-1, self.side**2, channels)

    def join(self, x: Tensor) -> Tensor:
        """Windows back to tokens [B, R * R, C]."""
        channels, per_side = x.shape[-1], self.resolution // self.side
        x = x.reshape(-1, per_side, per_side, self.side, self.side, channels).transpose(2, 3)
        x = x.reshape(-1, self.resolution, self.resolution, channels)
        if self.shift:
            x = torch.roll(x, (self.shift, self.shift), (1, 2))
        return x.reshape(-1, self.resolution**2, channels)


def relative_position_index(side: int) -> Tensor:
    """Row of the bias table for each pair of tokens of a window: int64 [side^2, side^2]."""
    place = torch.arange(side)
    row, column = place.repeat_interleave(side), place.repeat(side)
    down = row[:, None] - row[None, :] + side - 1
    right = column[:, None] - column[None, :] + side - 1
    return down * (2 * side - 1) + right


def shift_mask(windows: Windows, forbidden: float) -> Tensor | None:
    """`forbidden` for pairs of tokens that only the roll made neighbours, else 0.

    Returns [windows, side^2, side^2], or None for windows that are not shifted.
    """
    if windows.shift == 0:
        return None
    strip = torch.zeros(windows.resolution)
    strip[-windows.side :] = 1
    strip[-windows.shift :] = 2
    region = (3 * strip[:, None] + strip[None, :]).view(1, -1, 1)
    region = Windows(windows.resolution, windows.side, 0).split(region).squeeze(-1)
    return torch.where(region[:, :, None] == region[:, None, :], 0.0, forbidden)


def merge_neighbours(x: Tensor, resolution: int) -> Tensor:
    """[B, R * R, C] -> [B, R * R / 4, 4 C]: (even,even), (odd,even), (even,odd), (odd,odd)."""
    channels, half = x.shape[-1], resolution // 2
    x = x.reshape(-1, half, 2, half, 2, channels)  # row pair, row, column pair, column
    return x.permute(0, 1, 3, 4, 2, 5).reshape(-1, half * half, 4 * channels)
