"""Exact counts of elements, in blocks that stay in the cache.

On a CPU `count_nonzero` and sums of booleans take several times longer than a comparison that
writes 0.0 and 1.0 into a small buffer, and a sum over it. Sums of ones are exact in float32 up to
2**24, and no sum here is longer than a block, or one row.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

_BLOCK = 2**17  # elements: 512 KiB of float32
_SMALL = 2**12  # elements that are not worth the trouble


def count_nonzero(x: Tensor) -> int:
    """Number of elements that are not 0."""
    axes = sorted(range(x.dim()), key=x.stride, reverse=True)  # in the order of memory
    flat = x.permute(axes).reshape(-1)
    return sum(int(ones.sum()) for ones in _compared(flat, (torch.ne, 0)))


def count_per_position(x: Tensor, positions: int) -> Tensor:
    """Nonzero elements at each of the last `positions` places, int64 [positions].

    x is read as [rows, positions]: for a convolution's input [N, C, H, W], positions is H * W.
    """
    total = torch.zeros(positions, dtype=torch.int64, device=x.device)
    for ones in _compared(x.reshape(-1, positions), (torch.ne, 0)):
        total += ones.sum(0).to(torch.int64)
    return total


def count_spikes(x: Tensor, unit: Tensor, positions: int = 1) -> tuple[Tensor, int]:
    """Nonzero elements at each of the last `positions` places, and elements that are the unit.

    Args:
        unit: broadcasts to x [rows, ...].
    """
    total, units = torch.zeros(positions, dtype=torch.int64, device=x.device), 0
    for number, ones in enumerate(_compared(x, (torch.ne, 0), (torch.eq, unit))):
        if number % 2:
            units += int(ones.sum())
        else:
            total += ones.reshape(-1, positions).sum(0).to(torch.int64)
    return total, units


def _compared(x: Tensor, *questions: tuple) -> Iterator[Tensor]:
    """1 where compare(x, other) holds, else 0, for each question (compare, other) in turn.

    On parts of x [rows, ...]; an answer lasts until the next one.
    """
    fast = x.device.type == "cpu" and x.numel() >= _SMALL
    buffer = torch.empty(0)
    for block in blocks(x) if fast else (x,):
        if fast and buffer.shape != block.shape:
            buffer = torch.empty(block.shape)
        for compare, other in questions:
            yield compare(block, other, out=buffer) if fast else compare(block, other)


def blocks(x: Tensor) -> tuple[Tensor, ...]:
    """Parts of x [rows, ...] along its first axis that stay in the cache."""
    return x.split(max(1, _BLOCK * x.shape[0] // max(1, x.numel())))


def sum_over_steps(x: Tensor, steps: int, signed: bool) -> Tensor:
    """[K * B, ...] time major -> what each place sent over K steps, same layout as one step, flat.

    Args:
        signed: sum the values (what a cumulative neuron holds); otherwise count the spikes.
    """
    chunk = x.reshape(steps, x.numel() // steps)
    return chunk.sum(0) if signed else chunk.ne(0).to(torch.float32).sum(0)
