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
        """Take a batch of activations [B, ...] in; of a signed site, their absolute values."""
        self._see(self._channels_last(x))

    def _channels_last(self, x: Tensor) -> Tensor:
        return x.reshape(-1, 1) if self.axis is None else x.movedim(self.axis, -1).flatten(0, -2)

    def _see(self, rows: Tensor) -> None:
        largest = rows.amax(0)
        self.largest = largest if self.largest is None else torch.maximum(self.largest, largest)


class ActivationHistogram(LargestActivation):
    """A histogram of the positive activations per channel, whose range doubles when one is larger.

    A bin is between 1/1024 and 1/512 of the channel's largest activation wide.
    """

    BINS = 1024
    TRIED = 48  # thresholds between 1/64 of the largest activation and that itself

    def __init__(self, axis: int | None):
        super().__init__(axis)
        self.top: Tensor | None = None
        self.counts: Tensor | None = None

    def _see(self, rows: Tensor) -> None:
        super()._see(rows)
        if not bool(self.largest.isfinite().all()):
            return  # `activation_thresholds` names the site
        if self.counts is None:
            self.top = torch.zeros_like(self.largest)
            self.counts = torch.zeros(
                len(self.largest), self.BINS, dtype=torch.int32, device=rows.device
            )
        self.top = torch.where(self.top > 0, self.top, self.largest)
        while bool((low := self.largest > self.top).any()):
            halved = self.counts[low].view(-1, self.BINS // 2, 2).sum(-1, dtype=torch.int32)
            self.counts[low] = torch.cat([halved, torch.zeros_like(halved)], 1)
            self.top = torch.where(low, 2 * self.top, self.top)
        index = (rows / self.top * self.BINS).ceil_().sub_(1).clamp_(0, self.BINS - 1)
        index = torch.where(rows > 0, index, 0).long()  # 0 / 0 in dead channels is no index
        index += torch.arange(len(self.top), device=rows.device) * self.BINS
        found = torch.bincount(index[rows > 0], minlength=self.counts.numel())
        self.counts += found.view_as(self.counts).to(torch.int32)

    def percentile(self, percentile: float) -> Tensor:
        """The upper edge of the bin that so many per cent of the positive activations do not exceed.

        At most 0.2 % of the largest activation too high, and never above it. (B. Rueckauer et al.,
        2017, use 99.9.)
        """
        seen = self.counts.cumsum(1)
        wanted = (percentile / 100 * seen[:, -1:].double()).ceil()
        bins = (seen < wanted).sum(1) + 1
        edge = torch.minimum(self.top * bins / self.BINS, self.largest)
        return torch.where(self.largest > 0, edge, 0.0)

    def least_error(self, levels: int) -> Tensor:
        """The threshold with the least mean square error of QCFS with so many levels, by search.

        Clipping costs much for few values, rounding little for all: fewer levels want a lower one.
        """
        middles = (torch.arange(self.BINS, device=self.top.device) + 0.5) / self.BINS
        values = self.top[:, None] * middles.to(self.top)
        weights, best = self.counts.to(self.top), self.largest.clone()
        least = torch.full_like(best, torch.inf)
        for share in torch.logspace(0, -6, self.TRIED, base=2.0).tolist():
            threshold = share * self.largest[:, None].clamp(min=1e-30)
            level = (values / threshold * levels + 0.5).floor_().clamp_(max=levels)
            error = level.mul_(threshold / levels).sub_(values).square_().mul_(weights).sum(1)
            better = error < least
            least = torch.where(better, error, least)
            best = torch.where(better, share * self.largest, best)
        return torch.where(self.largest > 0, best, 0.0)
