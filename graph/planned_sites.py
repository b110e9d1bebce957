"""Plans sites so that every layer with weights, and every product of two values, reads spikes.

From each operand the walk goes back over what only moves spikes, up to the value that would have to
spike. A site comes after it, once, for all that read it so; others, such as a residual sum, keep
reading the value itself.
"""

import dataclasses
from collections.abc import Iterator

import torch
from torch import fx, nn

from ..neurons import QCFS, PlannedSite
from ..ops import Kind, Sign, Spikes, module_of, operation_of, relu_bound
from .batch_axis import batch_axes
from .errors import module_path
from .nodes import gives_several, operands, takes_one_of_several
from .sizes import is_number, is_size, reads_pixels
from .surgery import attribute, call_module_after, calls, finish

_SPIKES = (Kind.SITE, Kind.ACTIVATION)
_GIVES = ("call_module", "call_function", "call_method")


def open_sites(gm: fx.GraphModule) -> list[tuple[fx.Node, nn.Module]]:
    """Calls of a ReLU, a clipped ReLU or a planned site, in the order of the data flow.

    What is not made of pixels (positions, parameters) never spikes and is left out.
    """
    return [
        (node, module)
        for node, module in calls(gm, nn.ReLU, nn.Hardtanh, PlannedSite)
        if isinstance(module, PlannedSite)
        or (relu_bound(module) is not None and reads_pixels(node))
    ]


def plan_sites(gm: fx.GraphModule) -> int:
    """Insert a `PlannedSite` wherever a layer with weights or a product would not read spikes.

    Exempt are layers that read the image itself, and factors that are one function of one value
    (x * sigmoid(x) is an activation, no product).
    """
    plan = _Plan(gm)
    for node in gm.graph.nodes:
        for operand in plan.needs_spikes(node):
            plan.walk(node, operand)
    places = plan.places()
    planned = [(place, plan.follows(place)) for place in gm.graph.nodes if place in places]
    for place, follows in planned:
        site = PlannedSite(place not in plan.nonnegative, follows)
        path = str(place.target) if place.op == "call_module" else module_path(place)
        name = f"{path}.site" if path else "site"
        call_module_after(gm, place, name, site, lambda user: user in plan.route)
    return finish(gm, len(planned))


@dataclasses.dataclass(frozen=True)
class _Step:
    """A node on the way from the value that has to spike to the operand that is to be spikes."""

    node: fx.Node
    rest: "_Step | None"

    def __iter__(self) -> Iterator[fx.Node]:
        step: _Step | None = self
        while step is not None:
            yield step.node
            step = step.rest


class _Plan:
    """What is known of a graph in normal form, and the places found so far.

    Attributes:
        ways: from each value that would have to spike.
        route: nodes that are to read spikes.
    """

    def __init__(self, gm: fx.GraphModule):
        self.gm = gm
        self.axes = batch_axes(gm)
        self.rows = {n: operation_of(gm, n) for n in gm.graph.nodes if n.op in _GIVES}
        self.varies, self.raw = self._image_nodes()
        self.nonnegative = nonnegative_nodes(gm)
        self.ways: list[_Step] = []
        self.route: set[fx.Node] = set()

    def _image_nodes(self) -> tuple[set[fx.Node], set[fx.Node]]:
        """What depends on the image, and what of it no weight and no activation has seen yet."""
        varies: set[fx.Node] = set()
        raw: set[fx.Node] = set()
        for node in self.gm.graph.nodes:
            given = [n for n in node.all_input_nodes if n in varies]
            if node.op == "placeholder":
                varies.add(node)
                raw.add(node)
            elif given and node in self.rows and self.rows[node].kind is not Kind.SIZE:
                varies.add(node)
                row = self.rows[node]
                if not row.synapses and row.kind not in _SPIKES and raw.issuperset(given):
                    raw.add(node)
        return varies, raw

    # -- who needs spikes --------------------------------------------------------------------

    def needs_spikes(self, node: fx.Node) -> list[fx.Node]:
        """The operands of a node that should be spikes."""
        row = self.rows.get(node)
        if row is None or node in self.raw:
            return []
        given = [n for n in operands(node, row.values, unique=False) if n in self.varies]
        if row.kind is Kind.PRODUCT and len(given) > 1:
            if not row.synapses and self._one_function(given):
                return []
            return [] if self.raw.intersection(given) else list(dict.fromkeys(given))
        if row.synapses and row.kind in (Kind.LINEAR, Kind.PRODUCT):
            return [n for n in given if n not in self.raw]
        return []

    def _one_function(self, factors: list[fx.Node]) -> bool:
        """Whether factors come element by element from one value."""
        origins = [set(self._origins(node)) for node in factors]
        return bool(set.intersection(*origins))

    def _origins(self, node: fx.Node) -> Iterator[fx.Node]:
        """A node and the values that it is made of element by element."""
        while node is not None:
            yield node
            row = self.rows.get(node)
            given = [n for n in node.all_input_nodes if n in self.varies]
            pointwise = row is not None and row.kind in (
                Kind.NONLINEAR,
                Kind.SMOOTH,
                Kind.ACTIVATION,
                Kind.ADDITIVE,
                Kind.PRODUCT,
            )
            same = pointwise and len(given) == 1 and not row.synapses and not self._window(row)
            node = given[0] if same else None

    @staticmethod
    def _window(row) -> bool:
        """Whether an element of the result is made of several: poolings, norms, reductions."""
        return row.cost is None or row.cost.kind not in ("activation", "elementwise", "comparison")

    # -- the way back ------------------------------------------------------------------------

    def walk(self, reader: fx.Node, operand: fx.Node) -> None:
        """Note every way from a value that does not spike to this operand."""
        front = [_Step(operand, None)]
        seen = {operand}
        passed = {reader}
        while front:
            way = front.pop()
            node = way.node
            if node not in self.varies or self._spikes(node) or node in self.raw:
                continue
            before = self._moved(node)
            if before is None:
                self.ways.append(way)
                continue
            passed.add(node)
            front += [_Step(n, way) for n in before if n not in seen]
            seen.update(before)
        self.route |= passed

    def _spikes(self, node: fx.Node) -> bool:
        return node in self.rows and self.rows[node].kind in _SPIKES

    def _moved(self, node: fx.Node) -> list[fx.Node] | None:
        """What a node takes its elements from, if it does nothing else; otherwise None."""
        row = self.rows[node]
        given = [n for n in node.all_input_nodes if n in self.varies]
        values = operands(node, row.values)
        if takes_one_of_several(self.gm, node) and self.rows.get(node.args[0]) is not None:
            return given if self._moved(node.args[0]) is not None else None
        moves = row.kind is Kind.MASK or row.kind is Kind.LINEAR and not row.synapses
        if moves and row.keeps_spikes:
            plain = set(given) <= set(values) and all(n in self.varies for n in values)
            return given if plain and not _adds_a_number(node, row) else None
        factors = operands(node, row.values, unique=False)
        if row.kind is Kind.PRODUCT and len(given) == 1 and factors.count(given[0]) == 1:
            one = all(self._is_one_number(n) for n in node.all_input_nodes if n is not given[0])
            return given if one and row.sign is Sign.KEPT and not row.synapses else None
        return None

    def _is_one_number(self, node: fx.Node) -> bool:
        if node.op == "get_attr":
            value = attribute(self.gm, node.target)
            return isinstance(value, torch.Tensor) and value.numel() == 1
        return is_number(node)

    # -- the places --------------------------------------------------------------------------

    def places(self) -> set[fx.Node]:
        """Nodes after which a site comes.

        The values themselves; or a node on the way from there, if others read what lies between, or
        if the batch is not the first axis before.
        """
        found = set()
        for way in self.ways:
            nodes = list(way)
            place = nodes[0]
            for node in nodes[1:]:
                if any(user not in self.route and not is_size(user) for user in node.users):
                    place = node
            later = nodes[nodes.index(place) :]
            found.update([node for node in later if self._holds_state(node)][:1])
        return found

    def _holds_state(self, node: fx.Node) -> bool:
        """Whether neurons can stand after a node: it gives one tensor, the batch first."""
        return self.axes.get(node) == 0 and not gives_several(self.gm, node)

    def follows(self, place: fx.Node) -> str | None:
        """The site of which a max-pool picks values, or None."""
        row = self.rows[place]
        picks = row.kind is Kind.NONLINEAR and row.spikes is Spikes.PART
        if not picks or row.cost is None or row.cost.kind != "pooling":
            return None
        front, found = list(place.all_input_nodes[:1]), set()
        while front:
            node = front.pop()
            if self._spikes(node):
                found.add(node.target)
                continue
            before = self._moved(node) if node in self.rows and node in self.varies else None
            if before is None or self.rows[node].kind is Kind.PRODUCT:
                return None
            front += before
        return found.pop() if len(found) == 1 else None


def _adds_a_number(node: fx.Node, row) -> bool:
    """Whether what moves values also writes a number that is not 0 (padding, x[...] = 1)."""
    if row.writes is None:
        return False
    place, key = row.writes
    value = node.args[place] if len(node.args) > place else node.kwargs.get(key)
    return not isinstance(value, fx.Node) and bool(value)


def nonnegative_nodes(gm: fx.GraphModule) -> set[fx.Node]:
    """The nodes whose values cannot be negative, whatever the image."""
    found: set[fx.Node] = set()
    for node in gm.graph.nodes:
        if node.op == "get_attr":
            value = attribute(gm, node.target)
            if (
                isinstance(value, torch.Tensor)
                and not value.is_complex()
                and bool((value >= 0).all())
            ):
                found.add(node)
        elif node.op in _GIVES and _is_nonnegative(gm, node, found):
            found.add(node)
    return found


def _is_nonnegative(gm: fx.GraphModule, node: fx.Node, found: set[fx.Node]) -> bool:
    module, row = module_of(gm, node), operation_of(gm, node)
    if isinstance(module, (QCFS, PlannedSite)):
        return not module.signed
    if row.kind is Kind.SIZE or row.sign is Sign.POSITIVE:
        return True
    if row.sign is not Sign.KEPT or any(n not in found for n in node.all_input_nodes):
        return False
    written = row.writes or (0, "alpha")
    everything = row.kind in (Kind.ADDITIVE, Kind.PRODUCT)
    positions = range(len(node.args)) if everything else {*row.values, written[0]}
    given = [node.args[i] for i in positions if i < len(node.args)]
    given += [value for key, value in node.kwargs.items() if everything or key == written[1]]
    return all(value >= 0 for value in given if isinstance(value, (int, float)))
