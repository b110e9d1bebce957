"""The closed lists of saved conversions: what a stored graph may call, read and be built of."""

import builtins
import importlib

from torch import nn

from ..neurons import NEURONS
from ..ops import UNKNOWN, Kind, function_spelling, spelled
from ..ops.modules import MODULES
from ..support.messages import shown

READABLE = {"shape", "ndim", "dtype", "device", "T", "mT", "values", "indices", "is_cuda"}
PYTHON_HOMES = ("_operator", "builtins", "math")  # their functions take Python's own values
_FUNCTION_HOMES = (
    "torch",
    "torch.nn.functional",
    *PYTHON_HOMES,
    "torch._C._nn",
    "torch.functional",
    "torchvision.ops",
    "spikeswap.graph.parts",
)
# Where the classes lie that the table of operations converts, and those of timm. (The refused ones make
# as many layers as they are told to.)
_CLASS_HOMES = {"timm.layers.norm", "timm.layers.activations"} | {
    kind.__module__
    for row, kinds in MODULES
    for kind in kinds
    if spelled(row.split()[0]).operation.kind is not Kind.REFUSED
}


def known_operation(name: str) -> bool:
    """Whether a conversion may call a function or a method of this name."""
    row = spelled(name).operation
    if name.startswith("__"):
        return False
    return row is not UNKNOWN and row.kind is not Kind.REFUSED and not spelled(name).in_place


def _function(home: str, name: str):
    if home == "builtins" and not name.startswith("_"):
        known = function_spelling(getattr(builtins, name, None)).operation.kind is Kind.SIZE
    else:
        known = known_operation(name)
    if not known or home not in _FUNCTION_HOMES:
        return None
    found = getattr(importlib.import_module(home), name, None)
    return found if callable(found) else None


def find_function(full_name: str):
    """The function of a dotted name, or ValueError for one that is not on the list."""
    home, _, name = full_name.rpartition(".")
    found = _function(home, name)
    if found is None:
        raise ValueError(
            f"function {shown(full_name)} is not on the list of what a conversion may call"
        )
    return found


def function_name(function) -> str | None:
    """The dotted name that `find_function` finds a function by, if there is one."""
    name = getattr(function, "__name__", "")
    for home in (getattr(function, "__module__", None), *_FUNCTION_HOMES):
        if _function(home, name) is function:
            return f"{home}.{name}"
    return None


def find_class(full_name: str) -> type[nn.Module]:
    """The module class of a dotted name, or ValueError for one that is not on the list."""
    registered = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in NEURONS.values()}
    if full_name in registered:
        return registered[full_name]
    home, _, name = full_name.rpartition(".")
    if home in _CLASS_HOMES and not name.startswith(("_", "Lazy")):
        found = getattr(importlib.import_module(home), name, None)
        if isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == home:
            return found
    raise ValueError(
        f"class {shown(full_name)} is not on the list of what a conversion may be built of"
    )


def class_name(module: nn.Module) -> str | None:
    """The dotted name that `find_class` finds the class of a module by, if there is one."""
    full_name = f"{type(module).__module__}.{type(module).__qualname__}"
    try:
        return full_name if find_class(full_name) is type(module) else None
    except ValueError:
        return None
