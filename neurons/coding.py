"""What a stream of spikes stands for: its mean (rate coding) or its sum (cumulative coding).

Everything that the two do differently is said here: conversion, simulation, readout, reference
network and evaluation ask the coding of a neuron and compare no names.
"""

import dataclasses
from collections.abc import Callable, Collection

import torch
from torch import Tensor

from ..support.choices import ATTENTIONS, CALIBRATIONS, READOUTS
from .qcfs import clip, quantise


@dataclasses.dataclass(frozen=True)
class Window:
    """Which of the steps 1 to t a readout of rate coding averages.

    Attributes:
        words: what a report calls it.
        skipped: t (a whole number, or a tensor of them) -> how many first steps are left out.
    """

    words: str
    skipped: Callable


READOUTS["mean"] = Window("mean of all steps so far", lambda t: 0 * t)
READOUTS["second-half"] = Window("mean of the second half of the steps so far", lambda t: t // 2)


class Coding:
    """How values are made of streams, and what the readout tends to.

    Attributes:
        name: as it is stored in saved conversions.
        limit: what outputs call the network that the readout tends to.
        clips: its activations are clip(x, 0, threshold); otherwise they are QCFS.
        freezes_masks: one mask per image for all steps; otherwise a fresh one in each step.
        acts_once: constants and affine offsets act in the first step alone; otherwise in every one.
        attentions, readouts, calibrations: names of those that exist in this coding.
    """

    name: str
    limit: str
    clips: bool
    freezes_masks: bool
    acts_once: bool
    attentions: Collection[str]
    readouts: Collection[str]
    calibrations: Collection[str]

    def running(self, total: Tensor, steps: int, out: Tensor | None = None) -> Tensor:
        """The running value of a stream whose first `steps` steps have this sum."""
        raise NotImplementedError

    def total(self, running: Tensor, steps: int) -> Tensor:
        """The sum of the first `steps` steps of a stream that has this running value."""
        raise NotImplementedError

    def activation(self, x: Tensor, threshold: Tensor, levels: int, signed: bool = False) -> Tensor:
        """What a neuron tends to send for the running value x, in the unit of x."""
        raise NotImplementedError

    def read(self, sums: Tensor, readout: str) -> Tensor:
        """The readout after each step, [T, ...], from the sums of the first 1 to T outputs."""
        raise NotImplementedError

    def read_last(self, sums: list[Tensor], readout: str) -> Tensor:
        """The last of what `read` gives, [...]."""
        raise NotImplementedError

    def window(self, readout: str, steps: int) -> tuple[int, int] | None:
        """First and last step that the readout after `steps` steps averages; None: it is a sum."""
        raise NotImplementedError

    def words(self, readout: str | None) -> str | None:
        """What a report calls a readout."""
        raise NotImplementedError

    def check_readout(self, readout: str) -> str:
        """The name, or ValueError for an unknown one or one that this coding does not have."""
        if READOUTS.check(readout) not in self.readouts:
            raise ValueError(
                f"readout {readout!r} is for rate coding (neuron 'if'); neurons that send "
                "signed spikes are read by their running sum: use readout='mean'"
            )
        return readout

    def __eq__(self, other) -> bool:
        return self.name == getattr(other, "name", other)  # a script may compare its name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<{self.name} coding>"


class Rate(Coding):
    """The mean over time counts: streams tend to activations clipped at their thresholds."""

    name = "rate"
    limit = "clipped network"
    clips = True
    freezes_masks = False
    acts_once = False
    attentions = ATTENTIONS
    readouts = READOUTS
    calibrations = CALIBRATIONS

    def running(self, total, steps, out=None):
        return torch.div(total, steps, out=out)

    def total(self, running, steps):
        return running * steps

    def activation(self, x, threshold, levels, signed=False):
        return clip(x, threshold, signed)

    def read(self, sums, readout):
        t = torch.arange(1, len(sums) + 1, device=sums.device)
        skipped = READOUTS[readout].skipped(t)
        before = torch.cat((torch.zeros_like(sums[:1]), sums))[skipped]
        return (sums - before) / (t - skipped).view(-1, *[1] * (sums.dim() - 1))

    def read_last(self, sums, readout):
        t = len(sums)
        skipped = READOUTS[readout].skipped(t)
        return (sums[-1] - sums[skipped - 1] if skipped else sums[-1]) / (t - skipped)

    def window(self, readout, steps):
        return READOUTS[readout].skipped(steps) + 1, steps

    def words(self, readout):
        return READOUTS[readout].words if readout in READOUTS else readout


class Cumulative(Coding):
    """The sum over time counts: streams are steered to the levels of QCFS and stay there."""

    name = "cumulative"
    limit = "QCFS network"
    clips = False
    freezes_masks = True
    acts_once = True
    attentions = ("accumulated",)
    readouts = ("mean",)
    calibrations = ()

    def running(self, total, steps, out=None):
        return total if out is None else out.copy_(total)

    def total(self, running, steps):
        return running

    def activation(self, x, threshold, levels, signed=False):
        return quantise(x, threshold, levels, signed) * (threshold / levels)

    def read(self, sums, readout):
        return sums

    def read_last(self, sums, readout):
        return sums[-1]

    def window(self, readout, steps):
        return None

    def words(self, readout):
        return "running sum"


RATE, CUMULATIVE = Rate(), Cumulative()
CODINGS: dict[str, Coding] = {coding.name: coding for coding in (RATE, CUMULATIVE)}
