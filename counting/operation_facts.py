"""What a node of a graph does to spikes, and whether it does arithmetic."""

import enum

from torch import fx, nn

from ..graph import Kind, classify
from ..graph.operations import WEIGHT_LAYERS, function_name, module_of
from ..neurons import Accumulate, ChannelAffine, Offset, Present, SpikingNeuron
from .contractions import CONTRACTIONS
from .other import OTHER
from .provenance import PART, SAME


class Spikes(enum.Enum):
    """What the result is where all values are spikes {0, s} or {-s, 0, s}.

    SAME    the same nonzero elements in another order, zeros added at most
    PART    spikes, but not all of them, or some of them several times
    SCALED  spikes, where the other operand is one number or one per channel
    UNSURE  the values decide
    ANALOG  averages, sums of weighted spikes
    """

    SAME = "same"
    PART = "part"
    SCALED = "scaled"
    UNSURE = "unsure"
    ANALOG = "analog"


_SAME = SAME | {"identity", "moveaxis", "swapdims", "reshape_as", "float", "double", "zeropad2d"}
_PART = PART | {"getitem", "set_part", "concat", "concatenate", "vstack", "broadcast_to"}
_SUMS = frozenset("add sub iadd isub subtract rsub div truediv channelaffine offset".split())
_MODULES = {
    "pixelshuffle": "pixel_shuffle",
    "pixelunshuffle": "pixel_unshuffle",
    "channelshuffle": "channel_shuffle",
    "reflectionpad2d": "pad",
    "replicationpad2d": "pad",
    "upsample": "interpolate",
}


def _name(gm, node: fx.Node) -> str:
    module = module_of(gm, node)
    if module is None:
        return function_name(node)
    name = type(module).__name__.lower()
    return _MODULES.get(name, name)


def keeps_spikes(gm: fx.GraphModule, node: fx.Node) -> Spikes:
    """What a node that calls something makes of spikes."""
    if classify(gm, node)[0] is Kind.MASK:
        return Spikes.PART
    name = _name(gm, node)
    if name == "einsum" and _permutes(node.args[0]):
        return Spikes.SAME
    if name == "interpolate":
        mode = getattr(module_of(gm, node), "mode", node.kwargs.get("mode", "nearest"))
        return Spikes.PART if mode.startswith("nearest") else Spikes.ANALOG
    if name in _SAME:
        return Spikes.SAME
    if name in _PART:
        return Spikes.PART
    if name in ("mul", "imul", "multiply"):
        return Spikes.SCALED
    return Spikes.UNSURE if name in _SUMS else Spikes.ANALOG


def _permutes(equation: str) -> bool:
    """Whether an einsum of one operand only reorders its axes."""
    given, _, result = equation.replace(" ", "").partition("->")
    return "," not in given and sorted(given) == sorted(result) and len(set(given)) == len(given)


def arithmetic_of(gm: fx.GraphModule, node: fx.Node) -> tuple[str, bool] | None:
    """(name of the operation, whether it has synapses); None if it does no arithmetic."""
    module = module_of(gm, node)
    if isinstance(module, WEIGHT_LAYERS):
        return type(module).__name__, True
    if isinstance(module, SpikingNeuron):
        return f"neuron {module.kind}", False
    if isinstance(module, Accumulate):
        return f"accumulate ({module.coding})", False
    if isinstance(module, Present):
        return None
    if isinstance(module, (Offset, ChannelAffine)):
        return ("offset" if isinstance(module, Offset) else "normalisation"), False
    name = _name(gm, node)
    if name in ("matmul", "bmm", "mm", "mv", "einsum", "linear") or name.startswith("conv"):
        return name, True
    if name == "scaled_dot_product_attention":
        return name, True
    if classify(gm, node)[0] is Kind.MASK:
        return "mask", False
    kind, _ = classify(gm, node, gm.meta.get("leaves", ()))
    known = name in OTHER or name in CONTRACTIONS or "pool" in name
    if known or kind in (Kind.ADDITIVE, Kind.NONLINEAR, Kind.REFUSED) or name == "interpolate":
        names = {"layernorm": "layer norm", "layer_norm": "layer norm"}
        plain = isinstance(module, nn.Module) and name not in OTHER
        return names.get(name, type(module).__name__ if plain else name), False
    return ("mul", False) if keeps_spikes(gm, node) is Spikes.SCALED else None
