"""The allow-list of saved conversions: what a stored graph may call, read and be built of."""

import importlib

import torch

from ..ops import UNKNOWN, Kind, spelled

FUNCTION_HOMES = (
    "torch",
    "torch.nn.functional",
    "_operator",
    "builtins",
    "math",
    "torch._C._nn",
    "torch.functional",
    "torchvision.ops",
    "spikeswap.graph.parts",
)
CLASS_HOMES = ("torch.nn.", "spikeswap.neurons.", "timm.layers.")
_READABLE = {"shape", "ndim", "dtype", "device", "T", "mT", "values", "indices", "is_cuda"}
_BUILTINS = {"getattr", "int", "float", "len", "max", "min", "round", "sum", "abs", "slice"}


def check_call(written: dict) -> None:
    """Only operations that a conversion knows; attributes only of shapes and types."""
    name = written["target"].rpartition(".")[2]
    if written["op"] == "call_function" and name == "getattr":
        if written["args"]["tuple"][1] not in _READABLE:
            raise ValueError(
                f"attribute {written['args']['tuple'][1]!r} is not on the list of what "
                "a conversion may read"
            )
    elif spelled(name).operation is UNKNOWN or spelled(name).operation.kind is Kind.REFUSED:
        raise ValueError(
            f"operation {written['target']!r} is not on the list of what a conversion may call"
        )


def find_function(name: str):
    home, _, last = name.rpartition(".")
    if home not in FUNCTION_HOMES or (home == "builtins" and last not in _BUILTINS):
        raise ValueError(f"function {name!r} is not on the list of what a conversion may call")
    function = getattr(importlib.import_module(home), last, None)
    if function is None and home == "torch._C._nn":
        function = getattr(torch._C._nn, last, None)
    if function is None:
        raise ValueError(f"function {name!r} is unknown to this version of PyTorch")
    return function
