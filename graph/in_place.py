"""Operations that change a tensor in place, written without."""

import math
import operator

import torch
import torch.nn.functional as F
from torch import fx

from ..ops import Spikes, View, module_of, operation_of, spelling
from .errors import Offence
from .nodes import place_of, takes_one_of_several, words_of
from .parts import set_part
from .sizes import is_size
from .surgery import finish

PLACE = ("module_path", "source")
_REMEDY = "write it without in-place operations"


def in_place_to_plain(gm: fx.GraphModule) -> int:
    """Later readers of a tensor that is changed in place read the result; the change is plain.

    What is done to a part, as in `x[:, :2].relu_()`, is written back into the whole.
    """
    changed = 0
    order: dict[fx.Node, float] = {node: i for i, node in enumerate(gm.graph.nodes)}
    in_place_modules = {m for m in gm.modules() if getattr(m, "inplace", False)}
    parts = _Parts()
    for node in list(gm.graph.nodes):
        module = module_of(gm, node)
        if not (module in in_place_modules or _is_in_place(node)):
            continue
        if not node.args or not isinstance(node.args[0], fx.Node):
            continue
        changed += 1
        if module is not None and operation_of(gm, node).inactive:  # off: nothing is changed
            module.inplace = False
            continue
        source = node.args[0]
        _check_aliases(gm, node, order, parts)
        _later_users_read(node, source, order)
        _write_back(gm, node, source, order, parts)
        if module is not None:
            module.inplace = False
        elif not _make_plain(node):
            _refuse(gm, node, f"{words_of(gm, node)} has no form that is not in place")
    return finish(gm, changed)


def _is_in_place(node: fx.Node) -> bool:
    """Whether a function or method changes its first argument."""
    if node.op not in ("call_function", "call_method"):
        return False
    return node.target is operator.setitem or spelling(node).in_place


def _make_plain(node: fx.Node) -> bool:
    """Turn an in-place function or method into the one that gives a new tensor, if there is one."""
    row, name = spelling(node).operation, getattr(node.target, "__name__", node.target)
    plain = name.rstrip("_")
    if row.spikes is Spikes.BINARY:
        return False  # of which the plain form gives truth values, not numbers
    if node.target is operator.setitem:
        node.target = set_part
    elif name == "copy_":
        value = node.args[1] if len(node.args) > 1 else node.kwargs["src"]
        node.op, node.target = "call_function", set_part
        node.args, node.kwargs = (node.args[0], Ellipsis, value), {}
    elif row.augmented and row.augmented[0] == name:
        node.op, node.target = "call_function", row.augmented[1]
    elif node.op == "call_method":
        if not callable(getattr(torch.Tensor, plain, None)):
            return False
        node.target = plain
    elif "inplace" in node.kwargs:
        node.kwargs = {k: v for k, v in node.kwargs.items() if k != "inplace"}
    else:
        function = getattr(torch, plain, None) or getattr(F, plain, None)
        if function is None:
            return False
        node.target = function
    return True


def _refuse(gm: fx.GraphModule, node: fx.Node, operation: str) -> None:
    gm.meta.setdefault("offences", []).append(
        Offence(place_of(node), operation, node.meta.get("source"), _REMEDY)
    )


class _Parts:
    """Which parts of which tensors are still good, and what is out of date.

    Attributes:
        wholes: {part: (the tensor that holds its elements now, index)}, of results of changes and
            of parts that the last change left alone.
        changed: tensors that were changed since: their nodes hold an old value.
    """

    def __init__(self):
        self.wholes: dict[fx.Node, tuple[fx.Node, object]] = {}
        self.changed: set[fx.Node] = set()

    def base(self, part: fx.Node) -> tuple[fx.Node, object] | None:
        """(base, index) of a tensor that is known to be base[index], else None."""
        return self.wholes.get(part) or _base(part)

    def near(self, node: fx.Node) -> list[fx.Node]:
        """Tensors in the same memory as a node that took part in a write-back."""
        found = [part for part, (whole, _) in self.wholes.items() if whole is node]
        return found + ([self.wholes[node][0]] if node in self.wholes else [])

    def move(self, base: fx.Node, whole: fx.Node, index) -> None:
        """Parts of `base` that share nothing with its changed part `index` are parts of `whole`."""
        for part in {*self.near(base), *base.users}:
            found = self.base(part)
            if found is not None and found[0] is base and _disjoint(found[1], index):
                self.wholes[part] = whole, found[1]


def _write_back(
    gm: fx.GraphModule, node: fx.Node, part: fx.Node, order: dict, parts: _Parts
) -> None:
    """What became of base[index] goes into the base, and into what that is a part of."""
    new = node
    while (found := parts.base(part)) is not None:
        base, index = found
        if base in parts.changed:
            _refuse(gm, node, "changes a part of a tensor that was itself changed meanwhile")
            return
        with gm.graph.inserting_after(new):
            whole = gm.graph.call_function(set_part, (base, index, new))
        whole.meta = {**base.meta, **{k: node.meta[k] for k in PLACE if k in node.meta}}
        order[whole] = (order[new] + order[node] + 1) / 2
        _later_users_read(whole, base, order)
        parts.move(base, whole, index)
        parts.wholes[new] = whole, index
        parts.changed.add(part)
        new, part = whole, base
    parts.changed.add(part)


def _later_users_read(new: fx.Node, old: fx.Node, order: dict[fx.Node, float]) -> None:
    old.replace_all_uses_with(
        new, delete_user_cb=lambda user: order[user] > order[new], propagate_meta=False
    )


def _base(part: fx.Node) -> tuple[fx.Node, object] | None:
    """(base, index) of a view `part` = base[index]; None for any other node."""
    if part.target is not operator.getitem:
        return None
    base, index = part.args
    if isinstance(index, int) and "shape" not in base.meta:
        return None  # perhaps one of several tensors
    entries = index if isinstance(index, tuple) else (index,)
    slices = all(e is None or e is Ellipsis or isinstance(e, (int, slice)) for e in entries)
    return (base, index) if slices else None


def _disjoint(one, other) -> bool:
    """Whether two indices of the same tensor are known to share no element."""
    pair = [index if isinstance(index, tuple) else (index,) for index in (one, other)]
    for entries in zip(*pair, strict=False):
        ranges = [_range(entry) for entry in entries]
        if None in ranges:
            return False
        if ranges[0][1] <= ranges[1][0] or ranges[1][1] <= ranges[0][0]:
            return True
    return False


def _range(entry) -> tuple[float, float] | None:
    """First element and end of a slice or number that counts from the front, else None."""
    if isinstance(entry, slice):
        start, stop = entry.start or 0, math.inf if entry.stop is None else entry.stop
    else:
        start, stop = entry, entry + 1 if isinstance(entry, int) else None
    known = all(isinstance(n, int | float) and n >= 0 for n in (start, stop))
    return (start, stop) if known else None


def _is_view(gm: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node may give a part of the memory of its first operand."""
    if node.op not in ("call_module", "call_function", "call_method"):
        return False
    row = operation_of(gm, node)
    return row.view is not View.NEVER or takes_one_of_several(gm, node) or row.name == "leaf"


def _check_aliases(
    gm: fx.GraphModule, node: fx.Node, order: dict[fx.Node, float], parts: _Parts
) -> None:
    """Refuse a change in place that another view of the same memory shows to a later reader."""
    here = parts.base(node.args[0])

    def _other_part(member: fx.Node) -> bool:
        there = parts.base(member)
        return bool(here and there and here[0] is there[0] and _disjoint(here[1], there[1]))

    family, front = {node.args[0]}, [node.args[0]]
    while front:
        member = front.pop()
        near = [user for user in member.users if _is_view(gm, user) and user.args[0] is member]
        near += parts.near(member)
        if _is_view(gm, member):
            near.append(member.args[0])
        for other in near:
            if other is node or other.op == "get_attr" or _other_part(other):
                continue
            if other not in family:
                family.add(other)
                front.append(other)
    part = node.args[0]
    while part is not None:  # these are brought up to date
        family.discard(part)
        part = (parts.base(part) or (None,))[0]
    for member in family:
        if order.get(member, -1) > order[node]:
            continue  # made after the change
        if any(order[user] > order[node] and not is_size(user) for user in member.users):
            _refuse(gm, node, "changes a tensor in place of which another view is read later")
            return
