"""Functions that a graph in normal form calls as modules: activations, dropout."""

import math

from torch import fx, nn

from .facts import Kind
from .table import spelling


def argument(node: fx.Node, position: int, key: str, default=None):
    """An argument of a call, wherever it is written."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(key, default)


def _clamp(node: fx.Node) -> nn.Module | None:
    low, high = argument(node, 1, "min"), argument(node, 2, "max")
    if isinstance(low, fx.Node) or isinstance(high, fx.Node) or low != 0:
        return None
    return nn.ReLU() if high is None or high == math.inf else nn.Hardtanh(0.0, float(high))


def _hardtanh(node: fx.Node) -> nn.Module | None:
    low, high = argument(node, 1, "min_val", -1.0), argument(node, 2, "max_val", 1.0)
    return nn.Hardtanh(float(low), float(high)) if low == 0 else None


_MAKE = {
    "relu": lambda node: nn.ReLU(),
    "relu6": lambda node: nn.ReLU6(),
    "clamp": _clamp,
    "clamp_min": lambda node: nn.ReLU() if argument(node, 1, "min") == 0 else None,
    "hardtanh": _hardtanh,
    "dropout": lambda node: nn.Dropout(float(argument(node, 1, "p", 0.5))),
}


def as_module(node: fx.Node) -> tuple[str, nn.Module] | None:
    """(name, module) of a function or method that has a module of its own, else None.

    clamp(x, 0) is a ReLU and clamp(x, 0, c) a clipped one; other bounds stay functions.
    """
    row = spelling(node).operation
    module = _MAKE[row.name](node) if row.name in _MAKE else None
    assert module is not None or row.kind is not Kind.ACTIVATION, node
    return (row.name, module) if module is not None else None
