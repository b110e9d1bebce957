"""Follows the batch axis through a graph: images must not mix, and state needs the batch first.

Time is folded into the batch, so what mixes images would mix time steps too.
"""

from torch import fx

from ..ops import BATCH_FIRST, Call, Kind, Mixes, module_arguments, module_of, operation_of
from .errors import Offence
from .nodes import place_of, takes_one_of_several, words_of
from .sizes import is_size

_STATEFUL = (Kind.NONLINEAR, Kind.SMOOTH, Kind.ACTIVATION, Kind.SITE, Kind.MASK, Kind.NORM)


def batch_offences(gm: fx.GraphModule) -> list[Offence]:
    """Every operation that mixes images, or that needs the batch first and does not find it."""
    return _followed(gm)[1]


def batch_axes(gm: fx.GraphModule) -> dict[fx.Node, int | None]:
    """The batch axis of what every node gives; None where it has none."""
    return _followed(gm)[0]


def batch_not_first(gm: fx.GraphModule, node: fx.Node, axis: int) -> Offence:
    """What is said of a node whose result needs state, with the batch on another axis than the first."""
    what = f"{words_of(gm, node)} finds the batch on axis {axis}"
    return Offence(place_of(node), what, node.meta.get("source"), BATCH_FIRST)


def _followed(gm: fx.GraphModule) -> tuple[dict[fx.Node, int | None], list[Offence]]:
    axes: dict[fx.Node, int | None] = {}  # of the batch; None: the value has none
    found = []
    for node in gm.graph.nodes:
        try:
            axes[node] = _follow(gm, node, axes)
        except Mixes as error:
            axes[node] = None  # what follows is told when this is mended
            if node.users and all(is_size(user) for user in node.users):
                continue  # of which only a size is read
            what, remedy = error.args
            operation = f"{words_of(gm, node)} {what}"
            found.append(Offence(place_of(node), operation, node.meta.get("source"), remedy))
    return axes, found


def _follow(gm: fx.GraphModule, node: fx.Node, axes: dict) -> int | None:
    if node.op == "placeholder":
        return 0
    if node.op in ("get_attr", "output"):
        return None
    with_batch = [n for n in node.all_input_nodes if axes.get(n) is not None]
    row = operation_of(gm, node)
    if not with_batch or row.kind in (Kind.SIZE, Kind.CREATE, Kind.REFUSED):
        return None
    if takes_one_of_several(gm, node):
        return axes[node.args[0]]
    module = module_of(gm, node)
    kwargs = node.kwargs if module is None else module_arguments(module)
    operands = [(axes.get(n), _rank(n)) for n in _tensors(node)]
    first = next(n for n in _tensors(node) if axes.get(n) is not None)
    shape = first.meta.get("shape")
    before = None if shape is None and axes[first] else tuple(shape or ())[: axes[first]]
    call = Call(node.args, kwargs, operands, before)
    result = row.batch(call)
    if row.kind in _STATEFUL and call.axis != 0:
        raise Mixes(f"finds the batch on axis {call.axis}", BATCH_FIRST)
    return result


def _tensors(node: fx.Node) -> list[fx.Node]:
    """Every node among the arguments of a call, in order, each as often as it stands there."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), found.append)
    return found


def _rank(node: fx.Node) -> int | None:
    return len(node.meta["shape"]) if "shape" in node.meta else None
