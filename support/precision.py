"""Arithmetic that nobody outside makes coarser: no autocast, no TF32."""

import contextlib
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

_DEVICES = ("cpu", "cuda", "mps", "xpu")
P = ParamSpec("P")
R = TypeVar("R")


@contextlib.contextmanager
def without_tf32():
    """Products and convolutions of float32 values on a GPU are not rounded to TF32's 10 bits.

    PyTorch rounds in convolutions unless told otherwise. A spike weighs the same either way, but the
    sum of spikes that it replaces does not: a conversion would differ from its own network.
    """
    backends = torch.backends
    if hasattr(backends.cudnn, "conv"):  # PyTorch 2.9 and later
        places = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
        key, exact = "fp32_precision", "ieee"
    else:
        places, key, exact = (backends.cuda.matmul, backends.cudnn), "allow_tf32", False
    before = [getattr(place, key) for place in places]
    try:
        for place in places:
            setattr(place, key, exact)
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            setattr(place, key, value)


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with automatic mixed precision and TF32 switched off inside."""

    @functools.wraps(function)
    def exact(*args: P.args, **kwargs: P.kwargs) -> R:
        with contextlib.ExitStack() as stack:
            stack.enter_context(without_tf32())
            for device in _DEVICES:
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **kwargs)

    return exact
