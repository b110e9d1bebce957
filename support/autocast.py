"""Work that must not be rounded by an autocast around it."""

import contextlib
import functools

import torch

_DEVICES = ("cpu", "cuda", "mps", "xpu")


def without_autocast(function):
    """The function, with automatic mixed precision switched off inside."""

    @functools.wraps(function)
    def exact(*args, **kwargs):
        with contextlib.ExitStack() as stack:
            for device in _DEVICES:
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **kwargs)

    return exact
