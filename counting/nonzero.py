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
    return int(_block_sums(flat, _ROW).sum()) + int(torch.count_nonzero(flat[_whole(flat, _ROW) :]))


def count_per_position(x: Tensor, positions: int) -> Tensor:
    """Nonzero elements at each of the last `positions` places, int64 [positions].

    x is read as [rows, positions]: for a convolution's input [N, C, H, W], positions is H * W.
    """
    rows = x.numel() // positions
    if x.device.type != "cpu" or x.numel() < _ROW * 8 or positions > _BLOCK:
        return (x.reshape(rows, positions) != 0).sum(0)
    return _block_sums(_flat(x), positions)


_SUMMED = 2048  # n equal numbers: a float32 sum is off by at most n**2 / 2**24 of one, 1/4 here


def count_by_unit(
    x: Tensor, inverse: Tensor | None, axis: int, places: tuple[int, ...] | None
) -> tuple[int, Tensor | None] | None:
    """Spikes of a tensor that holds 0 and one height a channel, by plain sums.

    A sum divided by the height is a whole number, exactly recoverable for up to 2048 terms, and
    faster to have than a count. Where it is not whole, the values are not what was said.

    Args:
        x: float32 or float64 on a CPU, any shape.
        inverse: of the heights, as `inverse_of` gives it: [1] or [C].
        axis: of the channels (1 or -1).
        places: last axes of x, for counts by place, too.

    Returns:
        (spikes, counts by place int64 [*places flat] or None); None if the sums do not fit.
    """
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64) or x.dim() < 2:
        return None
    if inverse is None or inverse.numel() not in (1, x.shape[axis]):
        return None
    if places is not None:
        sums = _sums_by_place(x, inverse, axis, math.prod(places))
    elif inverse.numel() == 1:
        sums = _row_sums(x, inverse)
    else:
        sums = _channel_sums(x, inverse, axis)
    if sums is None:
        return None
    counts = sums.round()
    if float(torch.linalg.vector_norm(sums.sub_(counts), torch.inf)) > 0.3:
        return None
    if places is None:
        return int(counts.sum(dtype=torch.float64)), None
    by_place = counts.to(torch.int64).reshape(-1, math.prod(places)).sum(0)
    return int(by_place.sum()), by_place


def inverse_of(unit: Tensor, x: Tensor) -> Tensor | None:
    """1 / unit in the type of x, 0 for a dead channel, [1] or [C]; None for units of other shapes."""
    if unit.numel() > 1 and unit.dim() != 1:
        return None
    if unit.numel() == 1:
        value = float(unit)
        return x.new_full((1,), 1 / value if value > 0 else 0.0)
    return torch.where(unit > 0, 1 / unit, 0.0).to(x).reshape(-1)


def _row_sums(x: Tensor, inverse: Tensor) -> Tensor:
    flat = _any_order(x)
    end = _whole(flat, _ROW)
    rows = flat[:end].view(-1, _ROW).sum(1).mul_(inverse)
    return rows if end == flat.numel() else torch.cat((rows, flat[end:].sum() * inverse))


def _column_sums(table: Tensor) -> Tensor:
    """Sums down the columns of [rows, columns], of at most 512 rows each."""
    end = table.shape[0] // _ROW * _ROW
    sums = table[:end].view(-1, _ROW, table.shape[1]).sum(1)
    if end == table.shape[0]:
        return sums
    return torch.cat((sums, table[end:].sum(0, keepdim=True)))


def _channel_sums(x: Tensor, inverse: Tensor, axis: int) -> Tensor | None:
    if axis % x.dim() == x.dim() - 1:
        return _column_sums(x.reshape(-1, x.shape[-1])) * inverse
    inner = math.prod(x.shape[axis + 1 :])
    if axis != 1 or inner > _SUMMED:
        return None
    return x.reshape(x.shape[0], x.shape[1], inner).sum(2) * inverse


def _sums_by_place(x: Tensor, inverse: Tensor, axis: int, places: int) -> Tensor | None:
    if inverse.numel() == 1:
        return _column_sums(x.reshape(-1, places)) * inverse
    if axis != 1 or x.shape[1] > _SUMMED or x.numel() != x.shape[0] * x.shape[1] * places:
        return None
    return torch.matmul(inverse, x.reshape(x.shape[0], x.shape[1], places))


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
        block = buffer[: stop - start]
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
        part = total[start : start + _BLOCK]
        for k in range(steps):
            block = buffer[: part.numel()]
            torch.ne(chunk[k, start : start + _BLOCK], 0, out=block)
            part += block
    return total
