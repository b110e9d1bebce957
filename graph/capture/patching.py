"""While a model is traced: functions that would ask a proxy for numbers make nodes instead."""

import contextlib

import torch
from torch import fx

from ...ops import UNKNOWN, spelled
from .proxies import Value
from .tracing_errors import BatchDecides

# Functions that make a tensor of sizes and do not look at proxies by themselves.
_FACTORIES = ("zeros", "ones", "full", "empty", "arange", "linspace", "eye", "rand", "randn")


def _first_proxy(arguments) -> fx.Proxy | None:
    proxies: list[fx.Proxy] = []

    def look(value):
        if isinstance(value, fx.Proxy):
            proxies.append(value)
        return value

    fx.node.map_aggregate(arguments, look)
    return proxies[0] if proxies else None


@contextlib.contextmanager
def factories_see_proxies():
    """torch.zeros(x.shape[0], 4) becomes a node; torch itself would ask for the numbers."""
    originals = {name: getattr(torch, name) for name in _FACTORIES}

    def seeing(function):
        def call(*args, **kwargs):
            proxy = _first_proxy((args, kwargs))
            if proxy is None:
                return function(*args, **kwargs)
            return proxy.tracer.create_proxy("call_function", function, args, kwargs)

        return call

    for name, function in originals.items():
        setattr(torch, name, seeing(function))
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(torch, name, function)


@contextlib.contextmanager
def wrapped_functions_are_followed():
    """Functions that a library hides with fx.wrap are looked into, unless the table knows them.

    torchvision hides its window attention so; what it does inside is converted like anything else.
    """
    registry = getattr(fx._symbolic_trace, "_wrapped_fns_to_patch", {})
    hidden = {k: space for k, space in registry.items() if spelled(k[1]).operation is UNKNOWN}
    for key in hidden:
        del registry[key]
    try:
        yield
    finally:
        registry.update(hidden)


class _LikeInt(type):
    """The type of `Whole`: isinstance() and == treat that as int."""

    def __instancecheck__(cls, value):
        return isinstance(value, int)

    def __subclasscheck__(cls, other):
        return issubclass(other, int)

    def __eq__(cls, other):
        return other is int or other is cls

    def __hash__(cls):
        return hash(int)


class Whole(metaclass=_LikeInt):
    """int() of a model that is being traced.

    What the batch size decides stays a node: `B = int(windows.shape[0] / (H * W / 16))`, as the
    official Swin's window_reverse has it.
    """

    def __new__(cls, value=0, *base):
        if not isinstance(value, Value):
            return int(value, *base)
        try:
            return int(value)
        except BatchDecides:
            return value.tracer.create_proxy("call_function", torch.sym_int, (value,), {})


@contextlib.contextmanager
def int_sees_proxies(spaces: list[dict]):
    """`int` means `Whole` in these files, given by their globals."""
    spaces = [space for space in spaces if "int" not in space]
    for space in spaces:
        space["int"] = Whole
    try:
        yield
    finally:
        for space in spaces:
            del space["int"]
