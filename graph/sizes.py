"""Which numbers a graph reads off shapes, and what they come from."""

import torch
from torch import fx

SIZE_METHODS = ("size", "dim", "numel")


def is_size(node: fx.Node) -> bool:
    """x.shape, x.ndim, x.size(), x.dim(), x.numel()."""
    return node.target in SIZE_METHODS or (
        node.target is getattr and node.args[1] in ("shape", "ndim")
    )


def only_from_sizes(node: fx.Node) -> bool:
    """Whether a value is computed from shapes and parameters alone, not from pixels."""
    seen, front = {node}, [node]
    while front:
        member = front.pop()
        if member.op in ("placeholder", "call_module"):
            return False
        if not is_size(member):
            front.extend(n for n in member.all_input_nodes if n not in seen)
            seen.update(member.all_input_nodes)
    return True


def is_number(node: fx.Node) -> bool:
    """Whether a value is a size or is computed from sizes with Python's own arithmetic."""
    seen, front = {node}, [node]
    while front:
        member = front.pop()
        if is_size(member):
            continue
        home = getattr(member.target, "__module__", "")
        if member.op != "call_function" or member.target is getattr:
            return False
        if home not in ("_operator", "builtins", "math") and member.target is not torch.sym_int:
            return False
        front.extend(n for n in member.all_input_nodes if n not in seen)
        seen.update(member.all_input_nodes)
    return True


def depends_on_image(node: fx.Node) -> bool:
    seen, front = {node}, [node]
    while front:
        member = front.pop()
        if member.op == "placeholder":
            return True
        front.extend(n for n in member.all_input_nodes if n not in seen)
        seen.update(member.all_input_nodes)
    return False


def sizes_of(node: fx.Node) -> list[fx.Node]:
    """The sizes that a number is made of: x.shape[2], x.size(0), x.dim(), or a whole x.shape."""
    found, seen, front = [], set(), [node]
    while front:
        member = front.pop()
        if member in seen:
            continue
        seen.add(member)
        if is_size(member) or _is_entry(member):
            found.append(member)
        else:
            front.extend(member.all_input_nodes)
    return found


def _is_entry(node: fx.Node) -> bool:
    """x.shape[2], x.shape[-2:], x.shape[-2:][0]."""
    if getattr(node.target, "__name__", "") != "getitem" or not isinstance(node.args[0], fx.Node):
        return False
    return is_size(node.args[0]) or _is_entry(node.args[0])
