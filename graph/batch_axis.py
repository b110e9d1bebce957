"""Follows the batch axis through a graph: images must not mix, and state needs the batch first.

Time is folded into the batch, so what mixes images would mix time steps too.
"""

import operator

from torch import fx, nn

from .errors import Offence, module_path
from .operations import Kind, classify, creates, function_name, module_of, reads_size
from .parts import set_part

_REDUCING = set(
    """mean sum softmax log_softmax softmin amax amin max min argmax norm var std var_mean
logsumexp cumsum cumprod normalize sort topk prod median std_mean cosine_similarity""".split()
)
_MOVING = {"permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t"}
_CUTTING = {
    "split",
    "chunk",
    "narrow",
    "tensor_split",
    "split_with_sizes",
    "roll",
    "flip",
    "index_select",
    "gather",
}
_MIXES = "mixes the images of a batch"
_REMEDY = "compute it for each image on its own (keep axis 0 out of it)"
_FIRST = "move the permute behind the activation, so that the batch comes first there"


def batch_offences(gm: fx.GraphModule) -> list[Offence]:
    """Every operation that mixes images, or that needs the batch first and does not find it."""
    place: dict[fx.Node, int | None] = {}  # of the batch axis; None: the value has none
    offences = []
    for node in gm.graph.nodes:
        try:
            place[node] = _follow(gm, node, place)
        except _Mixes as error:
            place[node] = 0
            path = (
                node.target
                if node.op == "call_module"
                else module_path(node) or "(the model itself)"
            )
            what = (
                type(module_of(gm, node)).__name__
                if node.op == "call_module"
                else "x[...] = value"
                if node.target is set_part
                else f"{function_name(node)}()"
            )
            offences.append(
                Offence(path, f"{what} {error.args[0]}", node.meta.get("source"), error.args[1])
            )
    return offences


class _Mixes(Exception):
    """(what is wrong, remedy)"""


def _follow(gm: fx.GraphModule, node: fx.Node, place: dict) -> int | None:
    if node.op == "placeholder":
        return 0
    if node.op in ("get_attr", "output"):
        return None
    inputs = [(n, place[n]) for n in node.all_input_nodes if place.get(n) is not None]
    if not inputs or reads_size(node) or creates(node):
        return None
    source, axis = inputs[0]
    if node.op == "call_module":
        refused = classify(gm, node, gm.meta.get("leaves", ()))[0] is Kind.REFUSED
        return None if refused else _module(gm, node, axis)
    kind, _ = classify(gm, node, gm.meta.get("leaves", ()))
    if kind is Kind.REFUSED:
        return None
    name = function_name(node)
    if any(other != axis for _, other in inputs[1:]) and kind is not Kind.LINEAR:
        if len({len(n.meta["shape"]) for n, _ in inputs if "shape" in n.meta}) < 2:
            raise _Mixes(_MIXES, _REMEDY)  # one operand has the batch where the other has not
    if node.target is set_part:
        _getitem(node, source, axis)  # the index leaves the batch as it is
        return axis
    if node.target is operator.getitem:
        return _getitem(node, source, axis)
    if kind is Kind.NONLINEAR and axis != 0:
        raise _Mixes(f"finds the batch on axis {axis}", _FIRST)
    rank = len(source.meta["shape"]) if "shape" in source.meta else None
    if name in ("repeat", "tile", "repeat_interleave"):
        return _repeated(node, name, axis, rank)
    if name in _MOVING:
        return _moved(node, name, axis, rank)
    if name in _REDUCING or name in _CUTTING or name in ("cat", "concat", "concatenate"):
        return _along(node, name, axis, rank)
    if name in ("unsqueeze", "squeeze", "unbind", "select", "stack", "unflatten", "flatten"):
        return _reshaped(node, name, axis, rank)
    if name in ("reshape", "view") and axis != 0:
        raise _Mixes(f"reshapes a tensor with the batch on axis {axis}", _FIRST)
    if name in ("matmul", "bmm", "mm") and rank is not None and axis >= rank - 2:
        if rank > 2 or len(inputs) > 1:
            raise _Mixes(_MIXES, _REMEDY)
    return axis


def _module(gm: fx.GraphModule, node: fx.Node, axis: int) -> int:
    kind, _ = classify(gm, node)
    module = module_of(gm, node)
    if axis != 0 and not isinstance(module, (nn.Linear, nn.Identity, nn.Dropout)):
        raise _Mixes(f"finds the batch on axis {axis}", _FIRST)
    if isinstance(module, (nn.Softmax, nn.LogSoftmax)) and module.dim == 0:
        raise _Mixes(_MIXES, _REMEDY)
    if isinstance(module, nn.Unflatten) and module.dim == 0:
        return 0
    return axis


def _number(value, default=None):
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _positive(axis: int, rank: int | None) -> int:
    """A negative axis counts from the end; without a rank it is taken for none of the first."""
    return axis if axis >= 0 else (axis + rank if rank is not None else 99)


def _axes(node: fx.Node, at: int, rank: int | None, *keys: str) -> list[int] | None:
    """The axes that an argument names, or None if it is not there."""
    value = node.args[at] if len(node.args) > at else None
    for key in keys:
        value = node.kwargs.get(key, value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, (list, tuple)):
        return None
    return [_positive(v, rank) for v in value if isinstance(v, int)]


def _moved(node: fx.Node, name: str, axis: int, rank: int | None) -> int:
    if name == "permute":
        order = _axes(node, 1, rank, "dims")
        if order is not None and len(node.args) > 2:
            order = [_positive(v, rank or len(node.args) - 1) for v in node.args[1:]]
        if order and all(v != 99 for v in order):
            return order.index(axis)
        order = [v if v >= 0 else v + len(order or ()) for v in (order or ())]
        return order.index(axis) if axis in order else axis
    if name == "t":
        return 1 - axis
    first = _number(node.args[1] if len(node.args) > 1 else node.kwargs.get("dim0"), 99)
    second = _number(node.args[2] if len(node.args) > 2 else node.kwargs.get("dim1"), 99)
    first, second = _positive(first, rank), _positive(second, rank)
    if name in ("movedim", "moveaxis"):
        if first == axis:
            return second
        return axis + (second <= axis) - (first < axis)
    return second if first == axis else first if second == axis else axis


def _along(node: fx.Node, name: str, axis: int, rank: int | None) -> int:
    at = {
        "roll": 2,
        "cat": 1,
        "concat": 1,
        "concatenate": 1,
        "split": 2,
        "chunk": 2,
        "tensor_split": 2,
        "split_with_sizes": 2,
        "norm": 2,
        "normalize": 2,
        "cosine_similarity": 2,
        "topk": 2,
    }.get(name, 1)
    axes = _axes(node, at, rank, "dim", "dims", "axis")
    if axes is None and name in (
        "cat",
        "concat",
        "concatenate",
        "split",
        "chunk",
        "tensor_split",
        "split_with_sizes",
    ):
        axes = [0]
    if axes is None and name in ("normalize", "cosine_similarity", "topk", "sort"):
        axes = [1 if name in ("normalize", "cosine_similarity") else 99]
    if axes is None:
        if name in ("max", "min") and len(node.all_input_nodes) > 1:
            return axis
        raise _Mixes(_MIXES, _REMEDY)
    if axis in axes:
        raise _Mixes(_MIXES, _REMEDY)
    keeps = (
        name in _CUTTING
        or name.startswith(("cat", "conc"))
        or "softm" in name
        or name in ("log_softmax", "cumsum", "cumprod", "normalize", "sort", "topk")
        or node.kwargs.get("keepdim")
        or (
            name in ("mean", "sum", "amax", "amin", "var", "std")
            and len(node.args) > 2
            and node.args[2] is True
        )
    )
    return axis if keeps else axis - sum(a < axis for a in axes)


def _repeated(node: fx.Node, name: str, axis: int, rank: int | None) -> int:
    """Copies of an image may follow each other, a batch may not be repeated as a whole."""
    if name == "repeat_interleave":
        if _axes(node, 2, rank, "dim") is None:
            raise _Mixes("flattens a batch of images", _REMEDY)
        return axis
    times = node.args[1] if isinstance(node.args[1], (tuple, list)) else node.args[1:]
    new = len(times) - rank if rank is not None else 0  # axes that are put in front
    place = axis + max(new, 0)
    if place < len(times) and (times[place] != 1 or any(n != 1 for n in times[:place])):
        raise _Mixes(_MIXES, "use expand() or repeat_interleave(n, dim=0), which keep images apart")
    return place


def _reshaped(node: fx.Node, name: str, axis: int, rank: int | None) -> int:
    if name == "flatten":
        start = _positive(
            _number(node.args[1] if len(node.args) > 1 else node.kwargs.get("start_dim"), 0), rank
        )
        if start < axis:
            raise _Mixes(f"flattens a tensor with the batch on axis {axis}", _FIRST)
        return axis
    default = {"unbind": 0, "stack": 0, "squeeze": None}.get(name)
    value = _number(node.args[1] if len(node.args) > 1 else node.kwargs.get("dim"), default)
    if value is None:
        return axis
    if name in ("unsqueeze", "stack"):
        value = value if value >= 0 else (value + rank + 1 if rank is not None else 99)
        return axis + (value <= axis)
    value = _positive(value, rank)
    if name == "unflatten":
        return axis if value >= axis else axis + len(node.args[2]) - 1
    if name in ("unbind", "select") and value == axis:
        raise _Mixes(_MIXES, _REMEDY)
    return axis - (value < axis)


def _getitem(node: fx.Node, source: fx.Node, axis: int) -> int:
    if "shape" not in source.meta and not isinstance(node.args[1], (tuple, slice, type(None))):
        if function_name(source) in (
            "unbind",
            "split",
            "chunk",
            "tensor_split",
            "split_with_sizes",
            "max",
            "min",
            "topk",
            "sort",
            "var_mean",
        ):
            return axis  # one of several tensors
    index = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    if function_name(source) in ("unbind", "split", "chunk", "tensor_split", "split_with_sizes"):
        return axis
    seen, result = 0, 0
    for entry in index:
        if entry is Ellipsis:
            return axis if seen <= axis else result
        if entry is None:
            result += 1
            continue
        if seen == axis:
            if entry != slice(None, None, None):
                raise _Mixes(_MIXES, _REMEDY)
            return result
        if not isinstance(entry, int) or isinstance(entry, bool):
            result += 1
        seen += 1
    return result + axis - seen
