"""How many outputs each input position of a convolution really reaches, borders respected.

One axis at a time: input position i feeds output o when o * stride - padding + k * dilation == i
for some tap k of the kernel. The fan-out over several axes is the outer product of the axes', times
the output channels of the group.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor


@functools.lru_cache(maxsize=4096)
def axis_fanout(
    size: int,
    out: int,
    kernel: int,
    stride: int,
    padding: int,
    dilation: int,
    transposed: bool = False,
) -> tuple[int, ...]:
    """Outputs that each of `size` input positions reaches along one axis.

    Args:
        size, out: length of the input and of the output.
        transposed: a transposed convolution, in which input i feeds i * stride - padding +
            k * dilation.
    """
    reached = [0] * size
    if transposed:
        for i in range(size):
            first = i * stride - padding
            reached[i] = sum(0 <= first + k * dilation < out for k in range(kernel))
        return tuple(reached)
    for o in range(out):
        for k in range(kernel):
            i = o * stride - padding + k * dilation
            if 0 <= i < size:
                reached[i] += 1
    return tuple(reached)


def conv_fanout(
    size: Sequence[int],
    out: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool = False,
) -> Tensor:
    """Outputs of one output channel that each input position reaches: int64 [*size]."""
    fan = torch.ones((), dtype=torch.int64)
    for axis in zip(size, out, kernel, stride, padding, dilation, strict=True):
        fan = fan.unsqueeze(-1) * torch.tensor(axis_fanout(*axis, transposed))
    return fan
