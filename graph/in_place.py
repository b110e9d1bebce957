"""Operations that change a tensor in place, written without."""

import operator

import torch
from torch import fx, nn

from .errors import Offence
from .operations import DROPOUTS, function_name, module_of
from .parts import set_part
from .surgery import finish
from .tracing_errors import module_path

IN_PLACE = {
    "iadd": torch.add,
    "isub": torch.sub,
    "imul": torch.mul,
    "itruediv": torch.div,
    "setitem": set_part,
}


FILLS = {"zero_": torch.zeros_like, "fill_": torch.full_like}
PLACE = ("module_path", "source")


def in_place_to_plain(gm: fx.GraphModule) -> int:
    """Later readers of a tensor that is changed in place read the result; the change is plain.

    What is done to a part, as in `x[:, :2].relu_()`, is written back into the whole.
    """
    changed = 0
    order: dict[fx.Node, float] = {node: i for i, node in enumerate(gm.graph.nodes)}
    for node in list(gm.graph.nodes):
        module = module_of(gm, node)
        name = function_name(node) if node.op in ("call_function", "call_method") else ""
        in_place = (
            getattr(module, "inplace", False)
            or node.kwargs.get("inplace") is True
            or (name.endswith("_") and not name.endswith("__"))
            or name in IN_PLACE
        )
        if not in_place or not node.args or not isinstance(node.args[0], fx.Node):
            continue
        changed += 1
        if isinstance(module, (*DROPOUTS, nn.Identity)):  # off: nothing is changed
            module.inplace = False
            continue
        source = node.args[0]
        _check_aliases(gm, node, order)
        _later_users_read(node, source, order)
        _write_back(gm, node, source, order)
        if module is not None:
            module.inplace = False
        elif name in FILLS:
            node.op, node.target = "call_function", FILLS[name]
        elif node.op == "call_method":
            node.target = name.rstrip("_")
        elif "inplace" in node.kwargs:
            node.kwargs = {k: v for k, v in node.kwargs.items() if k != "inplace"}
        elif name in IN_PLACE:
            node.target = IN_PLACE[name]
        elif hasattr(torch, name.rstrip("_")):
            node.target = getattr(torch, name.rstrip("_"))
    return finish(gm, changed)


def _write_back(gm: fx.GraphModule, node: fx.Node, part: fx.Node, order: dict) -> None:
    """What became of base[index] goes into the base, and into what that is a part of."""
    new = node
    while (base := _base(part)) is not None:
        with gm.graph.inserting_after(new):
            whole = gm.graph.call_function(set_part, (base, part.args[1], new))
        whole.meta = {**base.meta, **{k: node.meta[k] for k in PLACE if k in node.meta}}
        order[whole] = (order[new] + order[node] + 1) / 2
        _later_users_read(whole, base, order)
        new, part = whole, base


def _later_users_read(new: fx.Node, old: fx.Node, order: dict[fx.Node, float]) -> None:
    old.replace_all_uses_with(
        new, delete_user_cb=lambda user: order[user] > order[new], propagate_meta=False
    )


def _base(part: fx.Node) -> fx.Node | None:
    """The tensor that `part` = base[index] is a view of; None for any other node."""
    if part.target is not operator.getitem:
        return None
    base, index = part.args
    if isinstance(index, int) and "shape" not in base.meta:
        return None  # perhaps one of several tensors
    entries = index if isinstance(index, tuple) else (index,)
    slices = all(e is None or e is Ellipsis or isinstance(e, (int, slice)) for e in entries)
    return base if slices else None


_VIEWS = set(
    """view reshape flatten unflatten permute transpose t swapaxes movedim squeeze unsqueeze
chunk split tensor_split unbind narrow select getitem expand expand_as view_as detach contiguous to
float double unfold diagonal""".split()
)


def _is_view(gm: fx.GraphModule, node: fx.Node) -> bool:
    module = module_of(gm, node)
    if module is not None:
        return isinstance(module, (nn.Identity, nn.Flatten, nn.Unflatten, *DROPOUTS))
    return node.op in ("call_function", "call_method") and function_name(node) in _VIEWS


def _check_aliases(gm: fx.GraphModule, node: fx.Node, order: dict[fx.Node, float]) -> None:
    """Refuse a change in place that another view of the same memory shows to a later reader."""
    family, front = {node.args[0]}, [node.args[0]]
    while front:
        member = front.pop()
        near = [user for user in member.users if _is_view(gm, user) and user.args[0] is member]
        if _is_view(gm, member):
            near.append(member.args[0])
        for other in near:
            if (
                other not in family
                and other is not node
                and other.op not in ("get_attr", "placeholder")
            ):
                family.add(other)
                front.append(other)
    part = node.args[0]
    while part is not None:  # these are brought up to date
        family.discard(part)
        part = _base(part)
    for member in family:
        if order.get(member, -1) > order[node]:
            continue  # made after the change
        for user in member.users:
            if order[user] > order[node]:
                gm.meta.setdefault("offences", []).append(
                    Offence(
                        node.target
                        if node.op == "call_module"
                        else module_path(node) or "(the model itself)",
                        "changes a tensor in place of which another view is read later",
                        node.meta.get("source"),
                        "write it without in-place operations",
                    )
                )
                return
