"""What is changed outside the tracer while the root's forward runs, and put back after it."""

import builtins
import contextlib
import functools
import types

import torch
from torch import fx
from torch.overrides import TorchFunctionMode

from .proxies import Value
from .tracing_errors import BatchDecides


@contextlib.contextmanager
def patched(int_spaces: list[dict]):
    """All of it. Other threads, which hold no proxies, get from each function what they always get."""
    with (
        hidden_functions_are_followed(),
        sizes_may_be_proxies(),
        int_sees_proxies(int_spaces),
        isinstance_sees_values(),
        TensorsOfProxies(),
    ):
        yield


def _first_proxy(arguments) -> fx.Proxy | None:
    proxies: list[fx.Proxy] = []

    def look(value):
        if issubclass(type(value), fx.Proxy):
            proxies.append(value)
        return value

    fx.node.map_aggregate(arguments, look)
    return proxies[0] if proxies else None


def _seeing(function, kind: str, target):
    """The function, which makes a node of this kind where it is given proxies."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        proxy = _first_proxy((args, kwargs))
        if proxy is None:
            return function(*args, **kwargs)
        return proxy.tracer.create_proxy(kind, target, args, kwargs)

    return call


class TensorsOfProxies(TorchFunctionMode):
    """torch.tensor(x.shape[1]) becomes a node; torch itself looks for proxies in no list of numbers."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if not any(
            issubclass(kind, fx.Proxy) for kind in types
        ):  # otherwise it makes the node itself
            function = _seeing(function, "call_function", function)
        return function(*args, **(kwargs or {}))


@functools.cache
def _take_sizes() -> list[tuple[object, str]]:
    """Functions and methods of torch that take sizes one by one, told by their schemas."""

    def takes_sizes(name: str, place: int) -> bool:
        packet = None if name.startswith("_") else getattr(torch.ops.aten, name, None)
        known = isinstance(packet, torch._ops.OpOverloadPacket)
        overloads = [getattr(packet, key) for key in packet.overloads()] if known else []
        arguments = [overload._schema.arguments for overload in overloads]
        words = [a[place].name for a in arguments if len(a) > place]
        return any(word in ("size", "shape", "repeats", "dims") for word in words)

    built_in = types.BuiltinFunctionType, types.MethodDescriptorType
    return [
        (home, name)
        for home, place in ((torch, 0), (torch.Tensor, 1))
        for name in dir(home)
        if isinstance(getattr(home, name), built_in) and takes_sizes(name, place)
    ]


@contextlib.contextmanager
def sizes_may_be_proxies():
    """torch.zeros(x.shape[0], 4) becomes a node; torch itself would ask for the numbers.

    Needed by networks that make a tensor of the batch's size, or expand a constant to it.
    """
    originals = {(home, name): vars(home).get(name) for home, name in _take_sizes()}
    for home, name in originals:
        function, method = getattr(home, name), home is torch.Tensor
        kind, target = ("call_method", name) if method else ("call_function", function)
        setattr(home, name, _seeing(function, kind, target))
    try:
        yield
    finally:
        for (home, name), original in originals.items():
            if original is None:  # inherited
                delattr(home, name)
            else:
                setattr(home, name, original)


@contextlib.contextmanager
def hidden_functions_are_followed():
    """Functions in Python that a library hides with fx.wrap are looked into, but for torch's own.

    torchvision's Swin hides its window attention so; what it does inside is converted like anything
    else. fx has put its wrappers into the files by now, and takes them out again itself.
    """
    wrappers = []
    for (_, name), space in fx._symbolic_trace._wrapped_fns_to_patch.items():
        original = getattr(space.get(name), "__wrapped__", None)
        written = isinstance(original, types.FunctionType)
        if written and not original.__module__.startswith("torch."):
            wrappers.append((space, name, space[name]))
            space[name] = original
    try:
        yield
    finally:
        for space, name, wrapper in wrappers:
            space[name] = wrapper


@contextlib.contextmanager
def isinstance_sees_values():
    """A proxy is an instance of what it stands for, such as a tensor. Needed by networks with einops.

    Its `__class__` must not say so: torch's own code would take it for a tensor and read its memory.
    A size is no int, as under torch.compile: libraries leave it alone then.
    """
    plain = builtins.isinstance

    def sees_values(value, kinds):
        if plain(value, kinds):
            return True
        return issubclass(type(value), Value) and issubclass(value.stands_for(), kinds)

    builtins.isinstance = sees_values
    try:
        yield
    finally:
        builtins.isinstance = plain


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
        if not issubclass(type(value), Value):
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
