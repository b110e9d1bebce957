"""Spiking neurons behind one small interface.

A neuron reads a chunk [K * B, ...] (time major) of its input and returns what it sends, of the same
shape: integer spikes times `unit`. The input is either the current of each step ("stream") or, with
`running_input`, the network's running value after each step (the mean for rate coding, the sum for
cumulative coding). State is kept between chunks and forgotten by `reset`.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..support.choices import NEURONS
from .clock import Timed, for_sums
from .coding import CUMULATIVE, RATE, Coding
from .qcfs import TIE, broadcast_threshold, quantise


class SpikingNeuron(Timed, nn.Module):
    """What all neurons share: threshold s, levels L, channel axis, state, and their alphabet.

    Args:
        threshold: s, shape [1], [C] (along `axis`) or broadcastable; 0 means a dead channel.
        levels: L of the QCFS that this neuron stands for.
        axis: channel axis of a threshold vector.
        signed: it stands for a signed QCFS, levels -L to L.

    Attributes:
        stands_for_signed: whether neurons of this class can do that.
    """

    kind: str
    coding: Coding
    stands_for_signed = False

    def __init__(self, threshold: Tensor, levels: int, axis: int = 1, signed: bool = False):
        super().__init__()
        assert self.stands_for_signed or not signed, self.kind
        self.levels = int(levels)
        self.axis = axis
        self.signed = signed
        self.running_input = False
        self.dims = 4  # axes of the tensors of this site
        self.register_buffer("threshold", threshold.detach().clone())
        self.reset()

    @property
    def unit(self) -> Tensor:
        """Value of one spike (shape of the threshold)."""
        raise NotImplementedError

    @property
    def alphabet(self) -> list[int]:
        """Every number of spikes that one step may send, in units."""
        raise NotImplementedError

    def reset(self) -> None:
        self.state: dict[str, Tensor] = {}

    def membrane(self) -> Tensor:
        """Membrane potential after the last step, in the unit of the input, [B, ...]."""
        raise NotImplementedError

    def to_integers(self, sent: Tensor) -> Tensor:
        """What was sent, in units: integers of the shape of `sent`."""
        unit = broadcast_threshold(self.unit, self.axis, sent.dim())
        count = torch.where(unit > 0, sent / unit, 0.0).round_()
        return count.to(torch.int8 if max(self.alphabet) < 128 else torch.int32)

    def forward(self, x: Tensor) -> Tensor:
        self.dims = x.dim()
        chunk = self.clock.split(x)
        sent = torch.empty_like(chunk)
        if not self.state:
            self.start(for_sums(chunk[0]))
        for k in range(self.clock.steps):
            self.step(for_sums(chunk[k]), self.clock.start + k + 1, sent[k])
        return sent.view(x.shape)

    def start(self, x: Tensor) -> None:
        """Set the state before the first step; x [B, ...] shows shape, type and device."""
        raise NotImplementedError

    def step(self, x: Tensor, t: int, sent: Tensor) -> None:
        """Advance to step t (from 1 on): read x [B, ...], write what is sent."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"levels={self.levels}, running_input={self.running_input}"


class IF(SpikingNeuron):
    """Integrate and fire, soft reset, starts at half the threshold, sends {0, s}.

    v(0) = s/2; v += x; spike if v >= s; v -= s at a spike (Bu et al., ICLR 2022; ties fire).
    The mean of what it sends tends to clip(x, 0, s) and equals QCFS for a constant x at T = L.

    Attributes:
        starts_at: v(0) over the threshold.
        step_bias: charge that is added in step t, [steps, ...] (each row broadcasts to one step of
            the input), or None; no charge is added after its last step (`calibrate.step_bias`).
        calibrator: while a bias is being fitted: current of a step -> bias of that step.
    """

    kind = "if"
    coding = RATE
    starts_at = 0.5

    def __init__(
        self,
        threshold: Tensor,
        levels: int,
        axis: int = 1,
        signed: bool = False,
        step_bias: Tensor | None = None,
    ):
        super().__init__(threshold, levels, axis, signed)
        self.register_buffer("step_bias", step_bias)
        self.calibrator: Callable[[Tensor], Tensor] | None = None

    @property
    def unit(self) -> Tensor:
        return self.threshold

    @property
    def alphabet(self) -> list[int]:
        return [0, 1]

    def start(self, x: Tensor) -> None:
        height = broadcast_threshold(self.threshold, self.axis, x.dim()).to(x)
        self.state = {
            "height": height,
            "barrier": torch.where(height > 0, height, torch.inf),
            "v": torch.zeros_like(x) + height * self.starts_at,
        }
        if self.running_input:  # what was sent, less the bias that was added
            self.state["sum"] = torch.zeros_like(x)
            self.state["charge"] = torch.zeros_like(x)

    def step(self, x: Tensor, t: int, sent: Tensor) -> None:
        v, height = self.state["v"], self.state["height"]
        if self.running_input:  # v = t * mean - sum sent + v(0)
            current = x * t - self.state["charge"]
            self.state["charge"].add_(current)
            torch.sub(self.state["charge"], self.state["sum"], out=v).add_(height * self.starts_at)
        else:
            current = x
            v.add_(x)
        bias = self.bias(current, t)
        if bias is not None:
            v.add_(bias)
            if self.running_input:
                self.state["sum"].sub_(bias)
        torch.ge(v, self.state["barrier"], out=sent)
        sent.mul_(height)
        v.sub_(sent)
        if self.running_input:
            self.state["sum"].add_(sent)

    def bias(self, current: Tensor, t: int) -> Tensor | None:
        """Charge beside the current in step t."""
        if self.calibrator is not None:
            return self.calibrator(current)
        if self.step_bias is not None and t <= len(self.step_bias):
            return self.step_bias[t - 1]
        return None

    def membrane(self) -> Tensor:
        return self.state["v"]


class _CumulativeNeuron(SpikingNeuron):
    """Steers the running sum of what it sends, in levels, to the level of QCFS.

    Given the running sum X of its input, the goal is floor(clip(X/s, 0, 1) L + 1/2), which is QCFS;
    `spikes` says how many levels to send towards it. That is a bipolar neuron with a membrane that
    starts at half a level and a tracer in [0, L] (K. You et al., "SpikeZIP-TF", ICML 2024); for a
    signed site clip and tracer start at -1 and -L.
    """

    coding = CUMULATIVE
    stands_for_signed = True

    @property
    def unit(self) -> Tensor:
        return self.threshold / self.levels

    def start(self, x: Tensor) -> None:
        height = broadcast_threshold(self.threshold, self.axis, x.dim()).to(x)
        self.state = {
            "height": height,
            "unit": height / self.levels,
            "input": torch.zeros_like(x),
            "tracer": torch.zeros_like(x),
        }

    def step(self, x: Tensor, t: int, sent: Tensor) -> None:
        total, tracer = self.state["input"], self.state["tracer"]
        if self.running_input:
            total.copy_(x)
        else:
            total.add_(x)
        goal = quantise(total, self.state["height"], self.levels, self.signed)
        spikes = self.spikes(goal.sub_(tracer), tracer)
        tracer.add_(spikes)
        torch.mul(spikes, self.state["unit"], out=sent)

    def spikes(self, distance: Tensor, tracer: Tensor) -> Tensor:
        """Signed number of levels to send, given the distance to the goal in levels."""
        raise NotImplementedError

    def membrane(self) -> Tensor:
        state = self.state
        return state["input"] + state["unit"] * (0.5 - state["tracer"])


class STBIF(_CumulativeNeuron):
    """Bipolar integrate and fire with a tracer: sends -1, 0 or 1 level per step."""

    kind = "stbif"

    @property
    def alphabet(self) -> list[int]:
        return [-1, 0, 1]

    def spikes(self, distance: Tensor, tracer: Tensor) -> Tensor:
        return distance.clamp_(-1, 1)


class Multi(_CumulativeNeuron):
    """Sends 0 or one signed power of two of levels per step.

    Of the two powers around the distance in whole levels, the one nearer to the distance of the
    membrane itself: 3 levels that are 2.8 send 2, 3 levels that are 3.2 send 4. (Always the upper one
    at such ties settles 2 steps later on a 12-block Swin.) The power never carries the running sum
    out of [0, L], or [-L, L] for a signed site.
    """

    kind = "multi"

    @property
    def alphabet(self) -> list[int]:
        furthest = 2 * self.levels if self.signed else self.levels
        powers = [2**i for i in range(furthest.bit_length())]
        return [-p for p in reversed(powers)] + [0] + powers

    def spikes(self, distance: Tensor, tracer: Tensor) -> Tensor:
        """In few passes over memory, which are what costs time; `distance` is used up."""
        below = _power_below(distance)
        least = -self.levels if self.signed else 0
        # how far membrane and goal lie beyond half-way between the powers: the goal by 0 or at least
        # 1/2, the membrane by at most 1/2 less or more, so that it decides where the goal does not
        nearer = torch.div(self.state["input"], self.state["unit"]).clamp_(least, self.levels)
        nearer.sub_(tracer).sub_(below, alpha=1.5)
        half_way = distance.sub_(below, alpha=1.5)
        nearer.add_(half_way, alpha=2).mul_(torch.sign(below, out=half_way))
        upper = torch.gt(nearer, TIE, out=half_way)  # 1 where the power above is the nearer one
        middle = (least + self.levels) / 2
        reached = torch.add(tracer, below, alpha=2, out=nearer).sub_(middle).abs_()
        upper.mul_(torch.le(reached, self.levels - middle, out=reached))
        return below.addcmul_(below, upper)


_POWER = {  # all of a float but its mantissa: sign and power of two
    torch.float32: (torch.int32, -(1 << 23)),
    torch.float64: (torch.int64, -(1 << 52)),
}


def _power_below(x: Tensor) -> Tensor:
    """The largest power of two that is at most |x|, with the sign of x; 0 for 0."""
    whole, bits = _POWER[x.dtype]
    return x.view(whole).bitwise_and(bits).view(x.dtype)


NEURONS.update({cls.kind: cls for cls in (IF, STBIF, Multi)})
