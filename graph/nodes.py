"""What a node is called in messages, and whether it takes one of several values."""

import operator

from torch import fx, nn

from ..ops import UNKNOWN, module_of, operation_of
from .capture.tracing_errors import module_path


def place_of(node: fx.Node) -> str:
    """The module that a node calls, or in which it lies, as messages name it."""
    return (
        str(node.target) if node.op == "call_module" else module_path(node) or "(the model itself)"
    )


def words_of(gm: nn.Module, node: fx.Node) -> str:
    """The operation of a node as the user wrote it: "Conv2d", "softmax()"."""
    module = module_of(gm, node)
    if module is not None:
        return type(module).__name__
    row = operation_of(gm, node)
    if row.name == "set_part":
        return "x[...] = value"
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return f"{name or node.target}()"


def takes_one_of_several(gm: nn.Module, node: fx.Node) -> bool:
    """Whether a node takes one value out of a tuple, list or dictionary that another one gives."""
    if node.target not in (operator.getitem, getattr) or not isinstance(node.args[0], fx.Node):
        return False
    source, key = node.args
    if "shape" in source.meta or source.op in ("placeholder", "get_attr"):
        return False
    if isinstance(key, str) and node.target is operator.getitem:
        return True
    if takes_one_of_several(gm, source):  # of a nested one
        return isinstance(key, int) and source.meta.get("nested", False)
    row = operation_of(gm, source)
    pool = getattr(module_of(gm, source), "return_indices", False)
    leaf = source.op == "call_module" and source.target in gm.meta.get("leaves", ())
    return isinstance(key, (int, str)) and (row.several or leaf or pool) and row is not UNKNOWN
