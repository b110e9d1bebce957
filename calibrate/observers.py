"""Streaming observers: how high the activations of one site get, in bounded memory."""

import torch
from torch import Tensor


class LargestActivation:
    """Streaming maximum, one value per channel (axis 1 or -1) or one in all (None).

    Args:
        axis: channel axis of the activations [B, ...].
    """

    def __init__(self, axis: int | None):
        self.axis = axis
        self.largest: Tensor | None = None

    def see(self, x: Tensor) -> None:
        """Take a batch of activations [B, ...] in."""
        self._see(self._channels_last(x))

    def value(self) -> Tensor:
        """The threshold of what was seen, [C] or [1]; 0 is a dead channel."""
        return self.largest

    def _channels_last(self, x: Tensor) -> Tensor:
        return x.reshape(-1, 1) if self.axis is None else x.movedim(self.axis, -1).flatten(0, -2)

    def _see(self, rows: Tensor) -> None:
        largest = rows.amax(0)
        self.largest = largest if self.largest is None else torch.maximum(self.largest, largest)


class PercentileActivation(LargestActivation):
    """Streaming percentile of the positive activations (B. Rueckauer et al., 2017, use 99.9).

    A histogram per channel, whose range doubles when a larger activation comes; the answer is the upper
    edge of a bin, at most 0.2 % of the largest activation too high, and never above it.
    """

    BINS = 1024

    def __init__(self, axis: int | None, percentile: float):
        super().__init__(axis)
        self.share = percentile / 100
        self.top: Tensor | None = None
        self.counts: Tensor | None = None

    def _see(self, rows: Tensor) -> None:
        super()._see(rows)
        if not bool(self.largest.isfinite().all()):
            return  # `activation_thresholds` names the site
        if self.counts is None:
            self.top = torch.zeros_like(self.largest)
            self.counts = torch.zeros(
                len(self.largest), self.BINS, dtype=torch.long, device=rows.device
            )
        self.top = torch.where(self.top > 0, self.top, self.largest)
        while bool((low := self.largest > self.top).any()):
            halved = self.counts[low].view(-1, self.BINS // 2, 2).sum(-1)
            self.counts[low] = torch.cat([halved, torch.zeros_like(halved)], 1)
            self.top = torch.where(low, 2 * self.top, self.top)
        index = (rows / self.top * self.BINS).ceil_().sub_(1).clamp_(0, self.BINS - 1)
        index = torch.where(rows > 0, index, 0).long()  # 0 / 0 in dead channels is no index
        index += torch.arange(len(self.top), device=rows.device) * self.BINS
        index = index[rows > 0]
        self.counts += torch.bincount(index, minlength=self.counts.numel()).view_as(self.counts)

    def value(self) -> Tensor:
        seen = self.counts.cumsum(1)
        wanted = (self.share * seen[:, -1:].double()).ceil()
        bins = (seen < wanted).sum(1) + 1
        edge = torch.minimum(self.top * bins / self.BINS, self.largest)
        return torch.where(self.largest > 0, edge, 0.0)
