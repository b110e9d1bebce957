"""Proxies that can be asked for a number, when the tracer knows an example of it."""

import dis
import inspect
import math
import operator

import torch
from torch import fx

from ..sizes import is_number
from .tracing_errors import BatchDecides


class Value(fx.Proxy):
    """A proxy whose tracer (`tracer.ShapeTracer`) may know what an example gives for it."""

    def __bool__(self):
        return bool(self.tracer.number(self))

    def __int__(self):
        try:
            return int(self.tracer.number(self))
        except BatchDecides as error:
            error.space = inspect.currentframe().f_back.f_globals
            raise

    def __index__(self):
        return operator.index(self.tracer.number(self))

    def __float__(self):
        return float(self.tracer.number(self))

    def __ceil__(self):
        return math.ceil(self.tracer.number(self))

    def __floor__(self):
        return math.floor(self.tracer.number(self))

    def __round__(self, digits=None):
        return round(self.tracer.number(self), digits)

    def __len__(self):
        return self.tracer.length(self)

    def __iter__(self):
        if isinstance(self.tracer.known(self, missing=None), (tuple, list, torch.Tensor)):
            return iter([self[i] for i in range(self.tracer.length(self))])
        frame = inspect.currentframe().f_back
        at = next(
            (i for i in dis.get_instructions(frame.f_code) if i.offset == frame.f_lasti), None
        )
        if at is not None and at.opname == "UNPACK_SEQUENCE":  # a, b = x.shape
            return iter([self[i] for i in range(at.argval)])
        return super().__iter__()

    def __getattr__(self, name):
        return ValueAttribute(self, name)

    def __setitem__(self, index, value):
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})


def _augmented(function):
    """x += y and its like as a node of their own; numbers, which cannot change, get a new value."""

    def method(self, other):
        if is_number(self.node):
            return NotImplemented  # Python then computes x + y
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return method


for _name in "iadd isub imul itruediv ifloordiv imod ipow iand ior ixor ilshift irshift".split():
    setattr(Value, f"__{_name}__", _augmented(getattr(operator, _name)))


class ValueAttribute(Value):
    """x.name: a method if it is called, else a node of its own."""

    def __init__(self, root: fx.Proxy, name: str):
        self.root, self.attribute, self.tracer = root, name, root.tracer
        self._node: fx.Node | None = None

    @property
    def node(self) -> fx.Node:
        if self._node is None:
            self._node = self.tracer.create_proxy(
                "call_function", getattr, (self.root, self.attribute), {}
            ).node
        return self._node

    def __call__(self, *args, **kwargs):
        return self.tracer.create_proxy("call_method", self.attribute, (self.root, *args), kwargs)
