"""What flows out of every node of a converted network: weights, the image, spikes, analog values.

Said once, from the graph alone: its time domains, where its neurons stand, and what each operation
makes of spikes. The counter and the report both ask here, so they cannot differ.
"""

import dataclasses

import torch
from torch import fx

from ..graph.domains import Domain
from ..graph.nodes import operands
from ..graph.surgery import attribute
from ..neurons import Accumulate, Present, SeededMask, SpikingNeuron
from ..ops import Kind as Operations
from ..ops import Spikes, module_of, operation_of
from .provenance import Kind

_FIXED = (Domain.PARAMETER, Domain.SIZE)


@dataclasses.dataclass(frozen=True)
class Flow:
    """What a node's value is.

    Attributes:
        kind: see `provenance.Kind`; IMAGE depends on the image alone, UNSURE is a sum of spikes of
            one height, perhaps with an offset.
        sources: SPIKES: names of the neurons that sent them.
        unit: value of one spike where it is one number, else None.
        increments: ANALOG: the running value of spikes, those of `sources`; what is linear in it can
            be brought up to date by the spikes of one step.
        effect: what the node itself does to spikes.
    """

    kind: Kind
    sources: frozenset[str] = frozenset()
    unit: float | None = None
    effect: Spikes = Spikes.ANALOG
    increments: bool = False


def flows(gm: fx.GraphModule) -> dict[fx.Node, Flow]:
    """The flow of every node of the graph of a converted network, in the order of the data flow."""
    found: dict[fx.Node, Flow] = {}
    for node in gm.graph.nodes:
        found[node] = _flow(gm, node, found)
    return found


def _flow(gm: fx.GraphModule, node: fx.Node, found: dict[fx.Node, Flow]) -> Flow:
    if node.op == "placeholder":
        return Flow(Kind.IMAGE)
    if node.op == "get_attr" or node.meta["domain"] in _FIXED:
        return Flow(Kind.WEIGHT)
    if node.op != "output" and operation_of(gm, node).kind is Operations.CREATE:
        return Flow(Kind.WEIGHT)
    data = [f for f in (found[n] for n in node.all_input_nodes) if f.kind is not Kind.WEIGHT]
    module = gm.get_submodule(node.target) if node.op == "call_module" else None
    if isinstance(module, SpikingNeuron):
        unit = float(module.unit) if module.unit.numel() == 1 else None
        return Flow(Kind.SPIKES, frozenset((node.target,)), unit)
    if isinstance(module, Accumulate):
        spikes = len(data) == 1 and data[0].kind is Kind.SPIKES
        return Flow(Kind.ANALOG, data[0].sources if spikes else frozenset(), increments=spikes)
    kinds = {flow.kind for flow in data}
    if isinstance(module, Present) or len(kinds) < 2 and kinds <= {Kind.IMAGE}:
        return Flow(Kind.IMAGE if data else Kind.WEIGHT)
    if node.meta["domain"] is not Domain.STREAM or kinds & {Kind.ANALOG, Kind.IMAGE}:
        return Flow(Kind.ANALOG)
    return _of_spikes(gm, node, data)


def _of_spikes(gm: fx.GraphModule, node: fx.Node, data: list[Flow]) -> Flow:
    """What a node makes of inputs that are spikes, or sums of spikes of one height."""
    effect, module = keeps_spikes(gm, node), module_of(gm, node)
    units = {flow.unit for flow in data}
    unit = units.pop() if len(units) == 1 else None
    if all(flow.kind is Kind.SPIKES for flow in data):
        sources = frozenset().union(*(flow.sources for flow in data))
        if effect in (Spikes.SAME, Spikes.PART):
            raised = isinstance(module, SeededMask) and module.scaling != "none"
            return Flow(Kind.SPIKES, sources, None if raised else unit, effect)
        if effect is Spikes.SCALED and len(data) == 1 and _by_channel(gm, node):
            return Flow(Kind.SPIKES, sources, effect=effect)
    if effect in (Spikes.SAME, Spikes.PART, Spikes.UNSURE) and unit is not None:
        return Flow(Kind.UNSURE, unit=unit, effect=effect)
    return Flow(Kind.ANALOG)


def updated_products(gm: fx.GraphModule, found: dict[fx.Node, Flow]) -> set[fx.Node]:
    """Products of two running values of spikes: S(t) = S(t-1) + q(t) K(t-1) + Q(t) k(t).

    Q and K are the sums of the spikes q and k so far: each spike adds what it meets of the other
    operand to all outputs that it reaches, and nothing is multiplied. (A running mean is the sum over
    t, so its product is S/t^2.)

    Args:
        found: what `flows` gave.
    """
    products = set()
    for node in gm.graph.nodes:
        if node.op not in ("call_function", "call_method"):
            continue
        row = operation_of(gm, node)
        factors = operands(node, row.values, unique=False)
        both = len(factors) == 2 and all(found[n].increments for n in factors)
        if row.kind is Operations.PRODUCT and both and set(factors) == set(node.all_input_nodes):
            products.add(node)
    return products


def keeps_spikes(gm: fx.GraphModule, node: fx.Node) -> Spikes:
    """What a node that calls something makes of spikes: the table's word, mode and equation known."""
    row = operation_of(gm, node)
    if row.name == "einsum" and isinstance(node.args[0], str) and _permutes(node.args[0]):
        return Spikes.SAME
    if row.name == "div" and node.args[0] in node.all_input_nodes:
        return Spikes.SCALED
    if row.name == "interpolate":
        mode = getattr(module_of(gm, node), "mode", node.kwargs.get("mode", "nearest"))
        return Spikes.PART if mode.startswith("nearest") else Spikes.ANALOG
    return row.spikes


def _permutes(equation: str) -> bool:
    """Whether an einsum of one operand only reorders its axes."""
    given, _, result = equation.replace(" ", "").partition("->")
    return "," not in given and sorted(given) == sorted(result) and len(set(given)) == len(given)


def _by_channel(gm: fx.GraphModule, node: fx.Node) -> bool:
    """Whether all tensors among a node's operands that are weights are one number per channel."""
    for source in node.all_input_nodes:
        if source.op == "get_attr":
            shape = attribute(gm, source.target).shape
        elif source.meta["domain"] is Domain.PARAMETER:
            shape = source.meta.get("shape", (2, 2))  # not known
        else:
            continue
        if sum(size > 1 for size in torch.Size(shape)) > 1:
            return False
    return True
