"""Which numbers a graph reads off shapes, and what they come from."""

from collections.abc import Callable, Iterator

import torch
from torch import fx

from ..ops import TABLE, spelling


def is_size(node: fx.Node) -> bool:
    """x.shape, x.ndim, x.size(), x.dim(), x.numel()."""
    if node.op not in ("call_function", "call_method"):
        return False
    if node.target is getattr:
        return node.args[1] in ("shape", "ndim")
    return spelling(node).operation is TABLE["size"]


def _walk(node: fx.Node, stop: Callable[[fx.Node], bool] = lambda n: False) -> Iterator[fx.Node]:
    """The node and what it is computed from, each once; what lies before a `stop` is left out."""
    seen, front = {node}, [node]
    while front:
        member = front.pop()
        yield member
        if not stop(member):
            front.extend(n for n in member.all_input_nodes if n not in seen)
            seen.update(member.all_input_nodes)


def only_from_sizes(node: fx.Node) -> bool:
    """Whether a value is computed from shapes and parameters alone, not from pixels."""
    return all(n.op not in ("placeholder", "call_module") for n in _walk(node, is_size))


def is_number(node: fx.Node) -> bool:
    """Whether a value is a size or is computed from sizes with Python's own arithmetic."""
    return all(is_size(n) or _is_arithmetic(n) for n in _walk(node, is_size))


def _is_arithmetic(node: fx.Node) -> bool:
    if node.op != "call_function" or node.target is getattr:
        return False
    home = getattr(node.target, "__module__", "")
    return home in ("_operator", "builtins", "math") or node.target is torch.sym_int


def depends_on_image(node: fx.Node) -> bool:
    return any(n.op == "placeholder" for n in _walk(node))


def reads_pixels(node: fx.Node) -> bool:
    """Whether a value is computed from what an image shows, not from its size, type or device alone."""

    def about(n: fx.Node) -> bool:
        return is_size(n) or (n.target is getattr and n.args[1] in ("device", "dtype"))

    return any(n.op == "placeholder" for n in _walk(node, about))


def readings_of(node: fx.Node, reads: Callable[[fx.Node], bool]) -> list[fx.Node]:
    """What a value is made of: x.shape[2], x.size(0), x.dim(), a whole x.shape, x.dtype.

    Args:
        reads: whether a node tells something of a tensor.
    """

    def is_reading(n: fx.Node) -> bool:  # also x.shape[2], x.shape[-2:], x.shape[-2:][0]
        entry = getattr(n.target, "__name__", "") == "getitem" and isinstance(n.args[0], fx.Node)
        return reads(n) or (entry and is_reading(n.args[0]))

    return [n for n in _walk(node, is_reading) if is_reading(n)]
