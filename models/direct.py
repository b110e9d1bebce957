"""What the direct-trained spiking networks share: images over time, state, readout, neurons.

Time is the first axis everywhere after the input: `[T, B, ...]`. Layers without state see
`[T*B, ...]`. Neurons are SpikingJelly's, in multi-step mode, so that its tools work on them.
"""

import logging
import math
import re
from functools import partial
from numbers import Real

import torch
from spikingjelly.activation_based import base, surrogate
from torch import nn

from ..support.whole_numbers import whole_number
from .spiking_nodes import IFNode, LIFNode, ParametricLIFNode

logger = logging.getLogger(__name__)

NEURONS = ("lif", "plif", "if")
GRADIENTS = {
    "sigmoid": partial(surrogate.Sigmoid, alpha=4.0),
    "atan": partial(surrogate.ATan, alpha=2.0),
}


def spiking_neuron(
    kind: str = "lif", tau: float = 2.0, threshold: float = 1.0, gradient: str = "sigmoid"
) -> base.MemoryModule:
    """A SpikingJelly neuron for `[T, B, ...]`: hard reset to 0, detached, fires at v >= threshold.

    Args:
        kind: "lif" (v += (x - v) / tau), "plif" (1/tau is a learnt number, key `w`) or
            "if" (v += x; its reset is not detached, SpikingJelly's default).
        tau: time constant in steps, above 1 (the starting value of a "plif").
        threshold: the membrane value that fires.
        gradient: surrogate of the step's gradient, "sigmoid" (alpha 4) or "atan" (alpha 2).
    """
    shared = {
        "v_threshold": float(threshold),
        "v_reset": 0.0,
        "step_mode": "m",
        "surrogate_function": GRADIENTS[gradient](),
    }
    if kind == "if":
        return IFNode(**shared)
    if kind not in NEURONS:
        raise ValueError(f"unknown neuron {kind!r}; known: {', '.join(NEURONS)}")
    if not (_is_number(tau) and 1.0 < tau < math.inf):
        raise ValueError(
            f"tau is {tau!r}; a leaky neuron needs a finite tau above 1 (published: 2.0 and 1.5)"
        )
    shared["detach_reset"] = True
    if kind == "lif":
        return LIFNode(tau=float(tau), **shared)
    return ParametricLIFNode(init_tau=float(tau), **shared)


def over_time(x_TB: torch.Tensor, layer) -> torch.Tensor:
    """Apply a layer without state to each step: `[T, B, ...]` to `[T, B, ...]`.

    What is the same at every step (a broadcast view: the constant image) is computed once.
    """
    steps, batch = x_TB.shape[:2]
    if steps > 1 and x_TB.stride(0) == 0:
        once = layer(x_TB[0])
        return once.expand(steps, *once.shape)
    return layer(x_TB.flatten(0, 1)).unflatten(0, (steps, batch))


def norm_over_time(x_TB: torch.Tensor, norm: nn.Module) -> torch.Tensor:
    """A BatchNorm over `[T, B, ...]`: its statistics in training count all T*B images."""
    if norm.training:
        return norm(x_TB.flatten(0, 1)).unflatten(0, x_TB.shape[:2])
    return over_time(x_TB, norm)


def running_mean(step_logits_TBK: torch.Tensor) -> torch.Tensor:
    """`[T, B, classes]`: after each step the mean of the logits so far."""
    counts = torch.arange(1, len(step_logits_TBK) + 1, device=step_logits_TBK.device)
    return step_logits_TBK.cumsum(0) / counts.to(step_logits_TBK.dtype)[:, None, None]


class DirectNetwork(nn.Module):
    """Base of the direct-trained networks; a family implements `_step_logits`.

    Attributes:
        timesteps: steps that a still image is shown for by default.
        tet: whether the published recipe trains every step's logits (the trainer reads it).
        UNUSED_KEYS: patterns of state-dict keys that checkpoints carry and the forward never reads.
    """

    UNUSED_KEYS: tuple[str, ...] = ()
    tet = False

    def __init__(self, timesteps: int = 4):
        super().__init__()
        check_positive(timesteps=timesteps)
        self.timesteps = timesteps

    def _step_logits(self, frames_TBCHW: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, images: torch.Tensor, timesteps: int | None = None) -> torch.Tensor:
        """Readout `[T, B, classes]`: after each step the running mean of the steps' logits.

        Args:
            images: `[B, C, H, W]`, shown at every step, or event frames `[B, T, C, H, W]`.
            timesteps: steps (default: the model's own; of event frames: all of them).
        """
        return running_mean(self.step_logits(images, timesteps))

    def step_logits(self, images: torch.Tensor, timesteps: int | None = None) -> torch.Tensor:
        """Logits of each step by itself, `[T, B, classes]`, for training."""
        frames = self.frames(images, timesteps)
        self.reset_state()
        logits = self._step_logits(frames)
        self._release_graph()
        return logits

    def frames(self, images: torch.Tensor, timesteps: int | None = None) -> torch.Tensor:
        """`[T, B, C, H, W]` from images or event frames (a view, nothing is copied)."""
        if timesteps is not None:
            check_positive(timesteps=timesteps)
        if images.dim() == 4:
            return images.expand(timesteps or self.timesteps, *images.shape)
        if images.dim() != 5:
            raise ValueError(
                f"images have shape {tuple(images.shape)}; give [B, C, H, W], "
                f"or event frames as [B, T, C, H, W]"
            )
        if timesteps is not None and timesteps > images.shape[1]:
            raise ValueError(
                f"timesteps is {timesteps}, but these event frames hold "
                f"{images.shape[1]} steps; cut the events into more frames"
            )
        return images.transpose(0, 1)[:timesteps]

    def spiking_neurons(self) -> list[base.MemoryModule]:
        """All SpikingJelly neurons of the network."""
        return [module for module in self.modules() if isinstance(module, base.MemoryModule)]

    def reset_state(self) -> None:
        """Set every membrane back to its start."""
        for neuron in self.spiking_neurons():
            neuron.reset()

    def _release_graph(self) -> None:
        """Keep the last membranes for inspection, not the graph that made them."""
        for neuron in self.spiking_neurons():
            if isinstance(neuron.v, torch.Tensor) and neuron.v.requires_grad:
                neuron.v = neuron.v.detach()

    def unused_keys(self) -> list[str]:
        """State-dict keys that are kept because checkpoints hold them, and never used."""
        return [
            key
            for key in self.state_dict()
            if any(re.fullmatch(pattern, key) for pattern in self.UNUSED_KEYS)
        ]

    def parameter_counts(self) -> dict[str, int]:
        """`all` parameters as instantiated, and those that are `used` by the forward."""
        unused = set(self.unused_keys())
        sizes = {name: parameter.numel() for name, parameter in self.named_parameters()}
        return {
            "all": sum(sizes.values()),
            "used": sum(size for name, size in sizes.items() if name not in unused),
        }


def check_positive(**numbers: int) -> None:
    """Raise a `ValueError` for a number that is not a whole number from 1 on."""
    for name, value in numbers.items():
        whole_number(name, value)


def check_divides(name: str, value: int, divisor: int, why: str) -> None:
    """Raise a `ValueError` that says which values near `value` are possible."""
    check_positive(**{name: value})
    if value % divisor:
        below = value // divisor * divisor
        near = " or ".join(str(number) for number in (below, below + divisor) if number)
        raise ValueError(
            f"{name} is {value}, but {why}; it must be a multiple of {divisor}, for example {near}"
        )


def check_split(part_name: str, parts: int, name: str, value: int) -> None:
    """Raise a `ValueError` that lists the divisors of `value`, if `parts` is none of them."""
    check_positive(**{part_name: parts, name: value})
    if value % parts:
        divisors = [number for number in range(1, value + 1) if value % number == 0]
        if len(divisors) > 14:
            divisors = [*sorted(divisors, key=lambda number: abs(number - parts))[:12]]
        possible = ", ".join(map(str, sorted(divisors)))
        raise ValueError(
            f"{part_name} is {parts}, but {name} {value} does not divide by it; "
            f"{part_name} may be {possible}, or give another {name.split('[')[0]}"
        )


def hidden_channels(dim: int, mlp_ratio: float) -> int:
    """Channels inside an MLP of `dim` channels, or a `ValueError` that says what is possible."""
    if not (_is_number(mlp_ratio) and 0 < mlp_ratio < math.inf and int(dim * mlp_ratio) >= 1):
        raise ValueError(
            f"mlp_ratio is {mlp_ratio!r}; it must be a number above 0 that leaves the MLP at least "
            f"one hidden channel, such as 4"
        )
    return int(dim * mlp_ratio)


def numbers_of_stages(**lists) -> None:
    """Raise a `ValueError` for what is no list of numbers."""
    for name, values in lists.items():
        if not (isinstance(values, list | tuple) and len(values)):
            raise ValueError(
                f"{name} is {values!r}; it takes a list with one number for each stage, such as "
                f"[64, 192, 384]"
            )


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
