"""Exact counts of nonzero elements, in blocks that stay in the cache.

On a CPU `count_nonzero` and sums of booleans take several times longer than a comparison that
writes 0.0 and 1.0 into a small buffer and a matrix-vector product over it. Sums of ones are exact
in float32 up to 2**24, and no sum here is longer than a block.
"""

import math

import torch
from torch import Tensor

_BLOCK = 2**18  # elements: 1 MiB of float32
_ROW = 512


def count_nonzero(x: Tensor) -> int:
    """Number of elements that are not 0."""
    if x.device.type != "cpu" or x.numel() < _ROW * 8:
        return int(torch.count_nonzero(x))
    flat = _any_order(x)
    return int(_block_sums(flat, _ROW).sum()) + int(torch.count_nonzero(flat[_whole(flat, _ROW):]))


def count_per_position(x: Tensor, positions: int) -> Tensor:
    """Nonzero elements at each of the last `positions` places, int64 [positions].

    x is read as [rows, positions]: for a convolution's input [N, C, H, W], positions is H * W.
    """
    rows = x.numel() // positions
    if x.device.type != "cpu" or x.numel() < _ROW * 8 or positions > _BLOCK:
        return (x.reshape(rows, positions) != 0).sum(0)
    return _block_sums(_flat(x), positions)


def _whole(flat: Tensor, row: int) -> int:
    return flat.numel() // row * row


def _flat(x: Tensor) -> Tensor:
    """All elements in the order of [..] indices, [N]."""
    return x.reshape(-1)


def _any_order(x: Tensor) -> Tensor:
    """All elements in the order of memory where that is free, [N]."""
    axes = sorted(range(x.dim()), key=x.stride, reverse=True)
    return x.permute(axes).reshape(-1)


def _block_sums(flat: Tensor, row: int) -> Tensor:
    """Column sums of (flat != 0) seen as [rows, row], without the rest: int64 [row]."""
    dtype = flat.dtype if flat.dtype in (torch.float32, torch.float64) else torch.float32
    rows = max(1, _BLOCK // row)
    end = _whole(flat, row)
    buffer = torch.empty(min(rows * row, max(end, row)), dtype=dtype)
    ones = torch.ones(rows, dtype=dtype)
    total = torch.zeros(row, dtype=torch.int64)
    for start in range(0, end, rows * row):
        stop = min(start + rows * row, end)
        block = buffer[:stop - start]
        torch.ne(flat[start:stop], 0, out=block)
        count = (stop - start) // row
        total += torch.mv(block.view(count, row).t(), ones[:count]).to(torch.int64)
    return total


def sum_over_steps(x: Tensor, steps: int, signed: bool) -> Tensor:
    """[K * B, ...] time major -> what each place sent over K steps, same layout as one step, flat.

    Args:
        signed: sum the values (what a cumulative neuron holds); otherwise count the spikes.
    """
    chunk = x.reshape(steps, math.prod(x.shape) // steps)
    if signed:
        return chunk.sum(0)
    if x.device.type != "cpu":
        return (chunk != 0).sum(0, dtype=torch.float32)
    total = torch.zeros(chunk.shape[1])
    buffer = torch.empty(min(_BLOCK, chunk.shape[1]))
    for start in range(0, chunk.shape[1], _BLOCK):
        part = total[start:start + _BLOCK]
        for k in range(steps):
            block = buffer[:part.numel()]
            torch.ne(chunk[k, start:start + _BLOCK], 0, out=block)
            part += block
    return total
