"""What a node of a graph does to spikes, and whether it does arithmetic: the table, per node."""

from torch import fx

from ..neurons import Accumulate, Present, SpikingNeuron
from ..ops import Kind, Spikes, module_of, operation_of

_WORDS = {"layer_norm": "layer norm", "channel_affine": "normalisation"}


def keeps_spikes(gm: fx.GraphModule, node: fx.Node) -> Spikes:
    """What a node that calls something makes of spikes."""
    row = operation_of(gm, node)
    if row.name == "einsum" and _permutes(node.args[0]):
        return Spikes.SAME
    if row.name == "interpolate":
        mode = getattr(module_of(gm, node), "mode", node.kwargs.get("mode", "nearest"))
        return Spikes.PART if mode.startswith("nearest") else Spikes.ANALOG
    return row.spikes


def _permutes(equation: str) -> bool:
    """Whether an einsum of one operand only reorders its axes."""
    given, _, result = equation.replace(" ", "").partition("->")
    return "," not in given and sorted(given) == sorted(result) and len(set(given)) == len(given)


def arithmetic_of(gm: fx.GraphModule, node: fx.Node) -> tuple[str, bool] | None:
    """(name of the operation, whether it has synapses); None if it does no arithmetic."""
    module, row = module_of(gm, node), operation_of(gm, node)
    if isinstance(module, SpikingNeuron):
        return f"neuron {module.kind}", False
    if isinstance(module, Accumulate):
        return f"accumulate ({module.coding})", False
    if isinstance(module, Present):
        return None
    name = _WORDS.get(row.name) or (type(module).__name__ if row.synapses and module else row.name)
    if row.synapses:
        return name, True
    moves = row.cost is None and row.kind in (Kind.LINEAR, Kind.SIZE, Kind.CREATE)
    return None if moves else (type(module).__name__ if row.name == "leaf" else name, False)
