"""The table of operations: what each one is, keeps, moves and costs. Everybody asks it."""

from .call import BATCH_FIRST, Call, Mixes
from .facts import Channels, Cost, Kind, Operation, Sign, Spikes, View
from .table import (
    ATEN,
    BATCH_NORMS,
    TABLE,
    UNKNOWN,
    WEIGHT_LAYERS,
    function_spelling,
    module_arguments,
    module_of,
    module_operation,
    operation_of,
    relu_bound,
    spelled,
    spelling,
)
from .writing import SMOOTH_REMEDY, UNKNOWN_REMEDY

__all__ = [
    "ATEN",
    "BATCH_FIRST",
    "BATCH_NORMS",
    "SMOOTH_REMEDY",
    "TABLE",
    "UNKNOWN",
    "UNKNOWN_REMEDY",
    "WEIGHT_LAYERS",
    "Call",
    "Channels",
    "Cost",
    "Kind",
    "Mixes",
    "Operation",
    "Sign",
    "Spikes",
    "View",
    "function_spelling",
    "module_arguments",
    "module_of",
    "module_operation",
    "operation_of",
    "relu_bound",
    "spelled",
    "spelling",
]
