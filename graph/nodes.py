"""What a node is called in messages, what it reads, and whether it takes one of several values."""

import operator

from torch import fx, nn

from ..ops import module_of, operation_of
from .errors import module_path


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


def operands(node: fx.Node, positions: tuple[int, ...], unique: bool = True) -> list[fx.Node]:
    """The nodes at these positions of a call, a list counting as one."""
    found: list[fx.Node] = []
    given = (*node.args, *node.kwargs.values())
    fx.node.map_arg([given[i] for i in positions if i < len(given)], found.append)
    return list(dict.fromkeys(found)) if unique else found


def gives_several(gm: nn.Module, node: fx.Node) -> bool:
    """Whether a node gives a tuple, list or dictionary of tensors."""
    if "shape" in node.meta or node.op in ("placeholder", "get_attr"):
        return False
    if node.target is operator.getitem:
        return isinstance(node.args[1], slice) and gives_several(gm, node.args[0])
    with_indices = getattr(module_of(gm, node), "return_indices", False)
    leaf = node.op == "call_module" and node.target in gm.meta.get("leaves", ())
    return with_indices or leaf or operation_of(gm, node).several


def takes_one_of_several(gm: nn.Module, node: fx.Node) -> bool:
    """Whether a node takes one or more out of several values that another one gives."""
    if node.target not in (operator.getitem, getattr) or not isinstance(node.args[0], fx.Node):
        return False
    if isinstance(node.args[1], str) and node.target is operator.getitem:
        return True  # of a dictionary
    return gives_several(gm, node.args[0])
