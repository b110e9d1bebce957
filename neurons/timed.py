"""Units that bring a value from one time domain into another, and offsets that act once.

A value of the network at step t is known as its *stream* x(t), what happens in this step, or as its
*running* value: the mean of x(1..t) for rate coding, their sum for cumulative coding.
"""

import torch
from torch import Tensor, nn

from .clock import Timed, for_sums
from .coding import CODINGS


class Accumulate(Timed, nn.Module):
    """Stream to running value: the mean (rate) or the sum (cumulative) of all steps so far.

    Args:
        coding: name of the coding.

    Attributes:
        readout: name of a readout; where it is set (rate coding, behind the last neurons), the mean
            of its steps takes the place of the mean of all steps.
    """

    def __init__(self, coding: str):
        super().__init__()
        self.coding = coding
        self.rule = CODINGS[coding]
        self.readout: str | None = None
        self.reset()

    def reset(self) -> None:
        self.total: Tensor | None = None
        self.past: list[Tensor] = []  # the sum after each step, where a readout is set

    def forward(self, x: Tensor) -> Tensor:
        chunk = self.clock.split(x)
        out = torch.empty_like(chunk)
        if self.total is None:
            self.total = torch.zeros_like(for_sums(chunk[0]))
        for k in range(self.clock.steps):
            self.total.add_(chunk[k])
            if self.readout is None:
                self.rule.running(self.total, self.clock.start + k + 1, out=out[k])
            else:
                self.past.append(self.total.clone())
                out[k] = self.rule.read_last(self.past, self.readout)
        return out.view(x.shape)

    def extra_repr(self) -> str:
        return f"coding={self.coding!r}"


class Present(Timed, nn.Module):
    """A value that does not change over time, [B, ...], as a chunk [K * B, ...].

    With `once` it acts in the first step alone (the stream of cumulative coding); otherwise it is
    the same in every step (the stream of rate coding, and any running value).
    """

    def __init__(self, once: bool):
        super().__init__()
        self.once = once

    def forward(self, x: Tensor) -> Tensor:
        steps = self.clock.steps
        if not self.once:
            return x.expand(steps, *x.shape).reshape(steps * x.shape[0], *x.shape[1:])
        out = x.new_zeros(steps, *x.shape)
        if self.clock.start == 0:
            out[0] = x
        return out.view(steps * x.shape[0], *x.shape[1:])

    def extra_repr(self) -> str:
        return f"once={self.once}"


class Offset(Timed, nn.Module):
    """x + c in the first step, x in all others: an affine offset of cumulative coding.

    Args:
        axis: where a vector c [C] lies in x; None: c broadcasts against one step of x as it is.
    """

    def __init__(self, axis: int | None = None):
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor, c: Tensor | float) -> Tensor:
        if self.clock.start > 0:
            return x
        chunk = self.clock.split(x)
        if self.axis is not None:
            shape = [1] * x.dim()
            shape[self.axis] = -1
            c = c.view(shape)
        first = (chunk[0] + c).unsqueeze(0)
        return torch.cat((first, chunk[1:])).view(-1, *first.shape[2:])

    def extra_repr(self) -> str:
        return f"axis={self.axis}"


class ChannelAffine(nn.Module):
    """x * scale + offset along one axis: a batch norm in eval mode that could not be folded.

    Args:
        scale, offset: [C]; `offset` may be None.
        axis: channel axis of x.
    """

    def __init__(self, scale: Tensor, offset: Tensor | None, axis: int):
        super().__init__()
        self.axis = axis
        self.register_buffer("scale", scale.detach().clone())
        self.register_buffer("offset", None if offset is None else offset.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        shape = [1] * x.dim()
        shape[self.axis] = -1
        if self.offset is None:
            return x * self.scale.view(shape)
        return torch.addcmul(self.offset.view(shape), x, self.scale.view(shape))

    def extra_repr(self) -> str:
        return f"channels={self.scale.numel()}, axis={self.axis}"
