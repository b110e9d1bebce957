"""Arithmetic that nobody outside makes coarser: no autocast, no TF32."""

import contextlib
import functools
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

_DEVICES = ("cpu", "cuda", "mps", "xpu")
P = ParamSpec("P")
R = TypeVar("R")


class _WithoutTF32:
    """The settings are of the whole process: the first who needs them sets, the last restores."""

    def __init__(self):
        self.lock, self.inside = threading.Lock(), 0
        self.before: list[tuple] = []

    @staticmethod
    def settings() -> tuple[list[tuple], str | bool]:
        """[(who has it, its name, its value)], and the value that rounds nothing.

        `allow_tf32`, unless somebody uses what PyTorch 2.9 has beside it: the two exclude each other.
        """
        cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
        wholes = (getattr(place, "fp32_precision", "none") for place in (torch.backends, cudnn))
        try:
            if all(whole == "none" for whole in wholes):
                old = [(place, "allow_tf32", place.allow_tf32) for place in (cuda.matmul, cudnn)]
                return old, False
        except RuntimeError:  # set by operation
            pass
        name = "fp32_precision"
        places = (cuda.matmul, cudnn.conv, cudnn.rnn)
        return [(place, name, place.fp32_precision) for place in places], "ieee"

    def enter(self) -> None:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.before, exact = self.settings()
                for place, name, _ in self.before:
                    setattr(place, name, exact)

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                for place, name, value in self.before:
                    setattr(place, name, value)


_without_tf32 = _WithoutTF32()


@contextlib.contextmanager
def without_tf32():
    """Products and convolutions of float32 values on a GPU are not rounded to TF32's 10 bits.

    PyTorch rounds in convolutions unless told otherwise. A spike weighs the same either way, but the
    sum of spikes that it replaces does not: a conversion would differ from its own network.
    """
    _without_tf32.enter()
    try:
        yield
    finally:
        _without_tf32.leave()


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
