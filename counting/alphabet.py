"""What the values of a tensor are: spikes of which alphabet, or analog.

Looked at, not assumed. An `Alphabet` is joined over the whole run, so that a quiet batch cannot
make spikes of an analog input, nor a busy one the reverse.
"""

import dataclasses

import torch
from torch import Tensor

_TOLERANCE = 1e-3  # of a level: rounding of float32 products stays far below, analog values above


@dataclasses.dataclass(frozen=True)
class Alphabet:
    """Values seen so far.

    Attributes:
        levels: largest number of units in one value; 0 when nothing but zeros was seen.
        signed: negative values were seen.
        scaled: the unit is not 1.
        unit: the unit where it is one number for the tensor, else None (one a channel, or unknown).
        analog: the values are no multiples of a unit.
    """

    levels: int = 0
    signed: bool = False
    scaled: bool = False
    unit: float | None = None
    analog: bool = False

    @property
    def spikes(self) -> bool:
        return not self.analog

    def join(self, other: "Alphabet") -> "Alphabet":
        """What both are together."""
        if other.levels == 0 and not other.analog:
            return self
        if self.levels == 0 and not self.analog:
            return other
        apart = None not in (self.unit, other.unit) and not _close(self.unit, other.unit)
        return Alphabet(
            max(self.levels, other.levels),
            self.signed or other.signed,
            self.scaled or other.scaled,
            self.unit,
            self.analog or other.analog or apart,
        )

    def rescaled(self) -> "Alphabet":
        """The same spikes times a factor that is not known."""
        return dataclasses.replace(self, scaled=True, unit=None)

    @property
    def words(self) -> str:
        """Its kind alone."""
        if self.analog:
            return "analog"
        if self.levels > 1:
            return "multi-level spikes"
        return "signed spikes" if self.signed else "spikes {0,s}"

    def __str__(self) -> str:
        unit = "s" if self.scaled else "1"
        if self.analog:
            return self.words
        if self.levels <= 1:
            return f"signed spikes {{-{unit},0,{unit}}}" if self.signed else f"spikes {{0,{unit}}}"
        low = f"-{self.levels}" if self.signed else "0"
        times = " x s" if self.scaled else ""
        return f"{self.words} {{{low}..{self.levels}}}{times}"


ANALOG = Alphabet(analog=True)


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-5 * max(abs(a), abs(b))


def inspect(x: Tensor, unit: Tensor | None = None) -> Alphabet:
    """The alphabet of one tensor.

    Args:
        x: any shape.
        unit: value of one spike, broadcastable to x, where the neuron says it; 0 or NaN marks a dead
            channel. Without it one unit for the tensor, one for each index of an axis, and whole
            numbers are tried, in this order.
    """
    if x.dtype == torch.bool:
        return Alphabet(levels=int(bool(x.any())), unit=1.0)
    if not (x.dtype.is_floating_point or x.dtype.is_complex):
        x = x.double()
    if x.numel() == 0:
        return Alphabet()
    low, high = (float(v) for v in torch.aminmax(x))
    if not (abs(low) < float("inf") and abs(high) < float("inf")):  # NaN fails too
        return ANALOG
    top = max(-low, high)
    if top == 0:
        return Alphabet()
    signed = low < 0
    if unit is not None:
        return _in_units(x, unit, signed)
    if all_are(x, top):
        return Alphabet(1, signed, scaled=top != 1, unit=top)
    for axis in _channel_axes(x):
        others = [a for a in range(x.dim()) if a != axis]
        if all_are(x, x.abs().amax(others, keepdim=True)):
            return Alphabet(1, signed, scaled=True)
    if bool((x == x.round()).all()):
        return Alphabet(int(round(top)), signed)
    return ANALOG


def all_are(x: Tensor, height) -> bool:
    """Whether every value is 0 or +/- height."""
    return bool(((x == 0) | (x.abs() == height)).all())


def _channel_axes(x: Tensor) -> list[int]:
    """Axes that may hold channels and have something to say (8 values an index at least)."""
    axes = {a % x.dim() for a in (-1, 1, 2, -3) if -x.dim() <= a < x.dim()}
    return [a for a in sorted(axes) if x.shape[a] > 1 and x.numel() // x.shape[a] >= 8]


def _in_units(x: Tensor, unit: Tensor, signed: bool) -> Alphabet:
    unit = unit.to(x).nan_to_num(0.0)
    count = x / torch.where(unit != 0, unit, torch.inf)
    whole = count.round()
    if bool(((count - whole).abs() > _TOLERANCE).any()) or bool(((unit == 0) & (x != 0)).any()):
        return ANALOG
    one = float(unit) if unit.numel() == 1 else None
    return Alphabet(int(whole.abs().max()), signed, scaled=one != 1.0, unit=one)
