"""QCFS, the quantised activation that a network is trained with before it is converted.

Its signed form, for values that can be negative, has the levels -L to L of s/L.

Source: T. Bu et al., "Optimal ANN-SNN Conversion for High-accuracy and Ultra-low-latency
Spiking Neural Networks", ICLR 2022, equation 15 (clip, floor, shift of one half).
"""

import torch
from torch import Tensor, nn

from ..support.whole_numbers import whole_number

MOST_LEVELS = 2**24  # float32 holds no more whole numbers
TIE = 1e-9  # of a level; accumulated rounding stays below 1e-10 up to 65,536 levels


class _QuantiseClipFloorShift(torch.autograd.Function):
    """y = s * floor(clip(x / s, low, 1) * L + 1/2) / L with a gradient of its own.

    s is the threshold, or its least value if that is larger. Both that and the rounding are passed
    straight through. low is 0, or -1 for the signed form. dy/dx is 1 where low s < x < s and 0
    elsewhere; dy/ds is y/s - x/s inside and the clipped level (low or 1) outside. Without levels it is
    clip(x, low s, s) with the gradients of the same formulas. Nothing here depends on
    what `torch.clamp` does at its bounds, which changed between PyTorch 2.13 and 2.15.
    """

    @staticmethod
    def forward(ctx, x: Tensor, threshold: Tensor, least: Tensor, levels: int | None, signed: bool):
        threshold = torch.maximum(threshold, least)
        share = clipped_share(x, threshold, signed)
        ctx.low = -1.0 if signed else 0.0
        if levels is None:
            y = share * threshold
        else:
            y = to_level(share.clone(), levels).mul_(threshold / levels)  # the neurons' own product
        ctx.save_for_backward(share, y, threshold)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor):
        share, y, threshold = ctx.saved_tensors
        # hardtanh's backward kernel passes the gradient where low < share < 1, in one sweep
        inside = torch.ops.aten.hardtanh_backward(grad, share, ctx.low, 1.0)
        grad_threshold = None
        if ctx.needs_input_grad[1]:
            level = _sum_to(grad, y, threshold) / torch.where(threshold > 0, threshold, torch.inf)
            grad_threshold = level - _sum_to(inside, share, threshold)
        return inside, grad_threshold, None, None, None


def _sum_to(a: Tensor, b: Tensor, like: Tensor) -> Tensor:
    """Sum of a * b over the axes along which `like` is broadcast."""
    if like.numel() == 1:
        return torch.dot(a.reshape(-1), b.reshape(-1)).view(like.shape)
    return (a * b).sum_to_size(like.shape)


def clipped_share(x: Tensor, threshold: Tensor, signed: bool = False) -> Tensor:
    """clip(x / threshold, 0, 1), signed: from -1 on; 0 where the threshold is 0."""
    return (x / torch.where(threshold > 0, threshold, torch.inf)).clamp_(-1 if signed else 0, 1)


def to_level(share: Tensor, levels: int) -> Tensor:
    """A share of the threshold to its level, in place; exact ties go up.

    Ties are no accident where levels are multiplied (attention scores) or averaged: 88/256 of 16
    levels is 5.5. In float64 the edge is moved down by a hair, so that the rounding of the sums that
    lead there does not decide them; float32 has no such room.
    """
    half = 0.5 + TIE if share.dtype == torch.float64 else 0.5
    return share.mul_(levels).add_(half).floor_()


def quantise(x: Tensor, threshold: Tensor, levels: int, signed: bool = False) -> Tensor:
    """Level of each element, 0 (signed: -levels) to `levels`, as floats; 0 where the threshold is 0."""
    return to_level(clipped_share(x, threshold, signed), levels)


def clip(x: Tensor, threshold: Tensor, signed: bool = False) -> Tensor:
    """clip(x, 0, threshold), signed: clip(x, -threshold, threshold)."""
    return torch.minimum(torch.maximum(x, -threshold) if signed else x.clamp(min=0), threshold)


def broadcast_threshold(threshold: Tensor, axis: int, dim: int) -> Tensor:
    """Shape a threshold for tensors of `dim` axes.

    A vector lies along `axis` (1: [B, C, ...]; -1: [..., C]); a scalar and a threshold of
    several axes, such as [heads, 1, 1], broadcast from the right as they are.
    """
    if threshold.dim() != 1 or threshold.numel() == 1:
        return threshold
    shape = [1] * dim
    shape[axis] = -1
    return threshold.reshape(shape)


def _as_threshold(threshold) -> Tensor:
    if isinstance(threshold, Tensor):
        threshold = threshold.detach().clone()
    else:
        try:
            threshold = torch.as_tensor(threshold, dtype=torch.get_default_dtype())
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"threshold {threshold!r} must be a number or a tensor") from None
    threshold = threshold.reshape(1) if threshold.dim() == 0 else threshold
    if not bool((torch.isfinite(threshold) & (threshold >= 0)).all()):
        raise ValueError(
            f"threshold {threshold.tolist()} must be finite and not negative; "
            "give the largest activation of the site, or 0 for a dead channel"
        )
    return threshold


class QCFS(nn.Module):
    """Quantisation-clip-floor-shift activation, for tensors of any shape.

    Args:
        levels: number L of levels above zero; the output is one of 0, s/L, ..., s.
        threshold: s, in the unit of the input: a number, or a tensor of one value per channel.
        axis: the channel axis of a threshold vector (1 or -1).
        signed: for values that can be negative: the output is one of -s, ..., -s/L, 0, s/L, ..., s.

    Attributes:
        clip_share: in train mode, the probability that a call clips without quantising. A network
            trained so is as good with ReLUs clipped at s, which is what rate coding tends to, as with
            QCFS (after X. Wei et al., "QDrop", ICLR 2022). Set by the training loop; 0 at first.
        threshold: learnable parameter. Its value counts as 1/40 of its starting value where it is
            less, so it can become neither negative nor zero; calls in train mode write that into
            the parameter, nothing else does.
    """

    def __init__(self, levels: int = 16, threshold=2.0, axis: int = 1, signed: bool = False):
        super().__init__()
        self.levels = whole_number("levels", levels, most=MOST_LEVELS, hint=", e.g. 16")
        self.axis = axis
        self.signed = signed
        self.clip_share = 0.0
        # Registered past the property below, which gives the value in its bounds.
        self._parameters["threshold"] = nn.Parameter(_as_threshold(threshold))
        self.register_buffer("floor", self._parameters["threshold"].detach() / 40)

    @property
    def threshold(self) -> Tensor:
        """The threshold s (shape [1], [C] or broadcastable), never below its floor.

        The parameter itself, unless it lies below: then a tensor of its own.
        """
        parameter = self._parameters["threshold"]
        below = bool((parameter < self.floor).any())
        return torch.maximum(parameter, self.floor) if below else parameter

    def set_threshold(self, threshold) -> None:
        """Replace the threshold (and the floor that belongs to it); any broadcastable shape."""
        old = self._parameters["threshold"]
        new = _as_threshold(threshold).to(old)
        self._parameters["threshold"] = nn.Parameter(new, requires_grad=old.requires_grad)
        self.floor = new.detach() / 40

    def take_over(self, other: "QCFS") -> None:
        """Use the threshold of another site: one learnable parameter for both."""
        self._parameters["threshold"] = other._parameters["threshold"]
        self.floor = other.floor

    def clipped(self) -> "ClippedReLU":
        """What rate coding tends to in place of this site."""
        return ClippedReLU(self.threshold, self.axis, self.signed)

    @property
    def unit(self) -> Tensor:
        """Height of one level, s/L."""
        return self.threshold.detach() / self.levels

    def levels_of(self, output: Tensor) -> Tensor:
        """What this site gave, in levels, differentiable in it and in the threshold."""
        unit = broadcast_threshold(self.threshold, self.axis, output.dim()) / self.levels
        return output / torch.where(unit > 0, unit, torch.inf)

    def forward(self, x: Tensor) -> Tensor:
        parameter = self._parameters["threshold"]
        if self.training:
            parameter.data.clamp_(min=self.floor)
        threshold, least = parameter, self.floor
        if x.dtype == torch.float32:  # of a network in float64 that casts inside
            threshold, least = threshold.to(x.dtype), least.to(x.dtype)
        threshold = broadcast_threshold(threshold, self.axis, x.dim())
        least = broadcast_threshold(least, self.axis, x.dim())
        clips = self.training and self.clip_share > 0 and float(torch.rand(())) < self.clip_share
        levels = None if clips else self.levels
        return _QuantiseClipFloorShift.apply(x, threshold, least, levels, self.signed)

    def extra_repr(self) -> str:
        value = self._parameters["threshold"]
        shown = f"{value.item():.4g}" if value.numel() == 1 else f"{tuple(value.shape)}"
        return f"levels={self.levels}, threshold={shown}{', signed' if self.signed else ''}"


class ClippedReLU(nn.Module):
    """clip(x, 0, s), signed: clip(x, -s, s): QCFS without its levels (shapes as in `QCFS`).

    It is what the firing rate of an IF neuron tends to.
    """

    def __init__(self, threshold: Tensor, axis: int = 1, signed: bool = False):
        super().__init__()
        self.axis = axis
        self.signed = signed
        self.register_buffer("threshold", threshold.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return clip(x, broadcast_threshold(self.threshold, self.axis, x.dim()), self.signed)


class PlannedSite(nn.Module):
    """Where an activation site belongs that the network itself does not have; gives its input back.

    Args:
        signed: its values can be negative.
        follows: path of the site whose threshold and levels it takes over, since its values are
            values of that one.
    """

    def __init__(self, signed: bool, follows: str | None = None):
        super().__init__()
        self.signed = signed
        self.follows = follows

    def forward(self, x: Tensor) -> Tensor:
        return x
