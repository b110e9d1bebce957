"""Modules that are counted as a whole, because what they do inside is not what hardware does.

A spiking neuron is one update (charge, compare) per step and a reset per spike, however its simulation
is written. Activations, masks and affine maps are one operation an element.
"""

import enum

import torch
from torch import Tensor, nn

from ..neurons import (
    QCFS,
    ChannelAffine,
    ClippedReLU,
    SeededMask,
    SpikeMask,
    SpikingNeuron,
    broadcast_threshold,
)
from .alphabet import Alphabet
from .contractions import Contraction, Operand, convolution


class Role(enum.Enum):
    """How a module is counted."""

    NEURON = "neuron"
    ACTIVATION = "activation"
    MASK = "mask"
    AFFINE = "elementwise"
    WEIGHTS = "weights"


_OURS: tuple[tuple[type, Role], ...] = (
    (SpikingNeuron, Role.NEURON),
    (QCFS, Role.ACTIVATION),
    (ClippedReLU, Role.ACTIVATION),
    (SeededMask, Role.MASK),
    (SpikeMask, Role.MASK),
    (ChannelAffine, Role.AFFINE),
)
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def role(module: nn.Module) -> Role | None:
    """The role of a module; None if its operations are counted one by one."""
    for kind, what in _OURS:
        if isinstance(module, kind):
            return what
    if type(module) is nn.Linear or (
        type(module) in _CONVS
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    ):
        return Role.WEIGHTS  # the exact types: a subclass may do anything
    return Role.NEURON if is_spikingjelly_neuron(module) else None


def contraction_of(module: nn.Module, x: Tensor, out: Tensor) -> Contraction:
    """What one call of a weight layer costs."""
    if isinstance(module, nn.Linear):
        rows, (outputs, inputs) = x.numel() // module.in_features, module.weight.shape
        macs = rows * inputs * outputs
        return Contraction(
            "linear",
            macs,
            Operand(x, outputs, macs),
            Operand(module.weight, rows, macs),
            out.numel(),
            out.numel() if module.bias is not None else 0,
            signature=(inputs, outputs),
        )
    arguments = (
        x,
        module.weight,
        module.bias,
        module.stride,
        module.padding,
        module.dilation,
        False,
        None,
        module.groups,
    )
    return convolution(arguments, {}, out)[0]


def is_spikingjelly_neuron(module: nn.Module) -> bool:
    """Whether a module is one of SpikingJelly's neurons (any version; not imported for this)."""
    return any(
        cls.__module__.startswith("spikingjelly.") and ".neuron" in cls.__module__
        for cls in type(module).__mro__
    )


def steps_of(module: nn.Module, out: Tensor) -> int:
    """Time steps along the leading axis of what a neuron sent; 0 if the module does not say."""
    if isinstance(module, SpikingNeuron):
        return module.clock.steps
    mode = getattr(module, "step_mode", None)
    if mode is None and type(module).__name__.startswith("MultiStep"):
        mode = "m"
    return {"m": out.shape[0], "s": 1}.get(mode, 0)


def unit_of(module: nn.Module, out: Tensor) -> Tensor:
    """Value of one spike, broadcastable to what the neuron sent (1 if it does not say).

    NaN, which nothing equals, stands for the unit of a dead channel.
    """
    if not isinstance(module, SpikingNeuron):
        return out.new_ones(())
    unit = broadcast_threshold(module.unit, module.axis, out.dim()).to(out)
    return torch.where(unit > 0, unit, torch.nan)


def declared(module: nn.Module) -> Alphabet:
    """What a neuron says it sends; {0, 1} where it says nothing."""
    if not isinstance(module, SpikingNeuron):
        return Alphabet(1, unit=1.0)
    unit = float(module.unit) if module.unit.numel() == 1 else None
    alphabet = module.alphabet
    return Alphabet(max(alphabet), min(alphabet) < 0, scaled=unit != 1.0, unit=unit)
