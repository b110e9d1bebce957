"""Reads the tensors of other people's checkpoints without running what else they pickled."""

import pickle
import types
from pathlib import Path

import torch

# What a state dict needs; every other class in the file becomes an inert dictionary.
_NEEDED = {
    "collections": {"OrderedDict"},
    "torch": {
        "Size",
        "device",
        "float16",
        "float32",
        "float64",
        "bfloat16",
        "int64",
        "int32",
        "bool",
    },
    "torch._utils": {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"},
    "torch.nn.parameter": {"Parameter"},
}


class _Inert(dict):
    """Stands for an object whose class is not loaded: a config, an optimizer, a numpy scalar."""

    def __init__(self, *args, **kwargs):
        super().__init__()

    def __setstate__(self, state):
        pass

    def append(self, item):
        pass

    def extend(self, items):
        pass


class _TensorUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if name in _NEEDED.get(module, ()):
            return super().find_class(module, name)
        return _Inert


_PICKLE = types.ModuleType("tensor_pickle")
_PICKLE.Unpickler = _TensorUnpickler
_PICKLE.load = lambda file, **options: _TensorUnpickler(file, **options).load()


def read_checkpoint(path) -> dict:
    """What a checkpoint file holds, on the CPU; objects that are no tensors are left empty.

    Raises:
        ValueError: no such file, or one that is truncated, damaged or no checkpoint; it is named.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"checkpoint {path} does not exist; give the path of a file")
    try:
        raw = torch.load(path, map_location="cpu", pickle_module=_PICKLE, weights_only=False)
    except (
        RuntimeError,
        OSError,
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        UnicodeDecodeError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"checkpoint {path} cannot be read ({reason}); it is truncated, damaged or "
            "no PyTorch checkpoint: copy it again"
        ) from error
    if not isinstance(raw, dict):
        raise ValueError(f"checkpoint {path} holds no state dict but a {type(raw).__name__}")
    return raw
