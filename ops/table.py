"""Look-ups in the table: which row a node, a module, a function or a dispatched call is."""

import dataclasses
import math

import torch.nn.functional as F
from torch import fx, nn

from .batch import kept
from .facts import Kind, Operation
from .modules import FOREIGN, MODULE_ROWS, MODULES
from .rows import ROWS
from .writing import SMOOTH_REMEDY, UNKNOWN_REMEDY

TABLE: dict[str, Operation] = {row.name: row for row in (*ROWS, *MODULE_ROWS)}
UNKNOWN = Operation("unknown", Kind.REFUSED, remedy=UNKNOWN_REMEDY)
LEAF = Operation("leaf", Kind.NONLINEAR, batch=kept)  # of the user: on running values

_SPELLED = {word: row for row in TABLE.values() for word in (row.name, *row.spellings)}
_AUGMENTED = {row.augmented[0]: row for row in TABLE.values() if row.augmented}
# Under the names that PyTorch dispatches, without overload and trailing underscore.
ATEN = {**_SPELLED, **{word: row for row in TABLE.values() for word in row.aten}}
# Functions that share their name with another operation.
_EXACT = {
    F.unfold: "im2col",
    **dict.fromkeys((int, float, bool, round, abs, min, max, sum, math.ceil, math.floor), "number"),
}
_HOMES = (
    "torch",
    "_operator",
    "math",
    "builtins",
    "timm.",
    "torchvision.",
    __package__.removesuffix("ops"),
)


@dataclasses.dataclass(frozen=True)
class Spelling:
    """A row as it is written at one place.

    Attributes:
        in_place: it changes its first operand.
    """

    operation: Operation
    in_place: bool = False


def spelled(word: str) -> Spelling:
    """The row of a method, or of a function by its name: "add", "add_", "iadd"."""
    if word in _AUGMENTED:
        return Spelling(_AUGMENTED[word], in_place=True)
    if word in _SPELLED:
        return Spelling(_SPELLED[word])
    if word.endswith("_") and not word.endswith("__"):
        return Spelling(_SPELLED.get(word[:-1], UNKNOWN), in_place=True)
    return Spelling(UNKNOWN)


def function_spelling(function) -> Spelling:
    """The row of a function of Python, torch or a library that is known; others are unknown."""
    if function in _EXACT:
        return Spelling(TABLE[_EXACT[function]])
    home = getattr(function, "__module__", None) or "torch"  # built-in functions of torch say None
    if not home.startswith(_HOMES):
        return Spelling(UNKNOWN)
    return spelled(getattr(function, "__name__", ""))


def spelling(node: fx.Node) -> Spelling:
    """The row of a node that calls a function or a method."""
    if node.op == "call_method":
        return spelled(node.target)
    found = function_spelling(node.target)
    if node.kwargs.get("inplace") is True:
        return dataclasses.replace(found, in_place=True)
    return found


def module_operation(module: nn.Module, user_leaf: bool = False) -> Operation:
    """The row of a module's class; `user_leaf`: the user marked it as a leaf."""
    if relu_bound(module) is not None:
        return TABLE["relu6" if isinstance(module, nn.Hardtanh) else "relu"]
    found = next((name for name, classes in MODULES if isinstance(module, classes)), None)
    found = found or FOREIGN.get(type(module).__name__)
    row = TABLE[found.split()[0]] if found else UNKNOWN
    if row.name in ("relu", "relu6"):  # a subclass, which may do anything
        row = UNKNOWN
    if row.name == "hardtanh":  # with another bound than 0 it is an activation that cannot spike
        row = dataclasses.replace(row, kind=Kind.SMOOTH, remedy=SMOOTH_REMEDY)
    return LEAF if user_leaf and row.kind in (Kind.REFUSED, Kind.SMOOTH) else row


def module_arguments(module: nn.Module) -> dict:
    """The attributes of a module that its function takes as arguments (`dim` of a softmax)."""
    for name, classes in MODULES:
        if isinstance(module, classes):
            return {word: getattr(module, word) for word in name.split()[1:]}
    return {}


def relu_bound(module: nn.Module) -> float | None:
    """Upper bound of a module that is a ReLU (infinity) or a clipped ReLU, else None."""
    plain = type(module).forward in (nn.ReLU.forward, nn.Hardtanh.forward)
    if isinstance(module, nn.ReLU) and plain:
        return math.inf
    if isinstance(module, nn.Hardtanh) and plain:  # ReLU6 is one
        return float(module.max_val) if module.min_val == 0 else None
    return None


def module_of(gm: nn.Module, node: fx.Node) -> nn.Module | None:
    """The module that a node calls."""
    return gm.get_submodule(node.target) if node.op == "call_module" else None


def operation_of(gm: nn.Module, node: fx.Node, leaves=None) -> Operation:
    """The row of a node that calls something.

    Args:
        gm: holds the modules; `gm.meta["leaves"]` names those that the user marked as leaves.
        leaves: such names, where `gm` is no traced graph.
    """
    module = module_of(gm, node)
    if module is None:
        return spelling(node).operation
    leaves = gm.meta.get("leaves", ()) if leaves is None else leaves
    return module_operation(module, node.target in leaves)


def classes_of(*names: str) -> tuple[type, ...]:
    """The module classes of these rows."""
    return tuple(c for word, classes in MODULES if word.split()[0] in names for c in classes)


BATCH_NORMS = classes_of("batch_norm")
WEIGHT_LAYERS = classes_of(*(name for name, row in TABLE.items() if row.synapses))
