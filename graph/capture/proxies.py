"""Proxies that answer questions, when the tracer knows an example of what they stand for."""

import inspect
import math
import operator

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor

from ...ops import TABLE
from ..sizes import is_number
from .tracing_errors import BatchDecides


def _type(value) -> type:
    """The type of an example; what is not known is taken for a tensor."""
    return torch.Tensor if value is None or isinstance(value, FakeTensor) else type(value)


class Value(fx.Proxy):
    """A proxy whose tracer (`tracer.ShapeTracer`) may know what an example gives for it.

    Needed by torchvision's Swin, whose windows are padded and shifted as their number asks for.
    """

    def stands_for(self) -> type:
        """What `patching.isinstance_sees_values` sees: a tensor, a shape; of a size it sees a proxy."""
        value = self.tracer.known(self, missing=None)
        size = isinstance(value, int | float) or (value is None and is_number(self.node))
        return Value if size else _type(value)

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

    def __getattr__(self, name):
        if name == "__array__":  # np.sqrt(x.shape[1])
            return self.tracer.as_array(self)
        if name.startswith("__"):  # asked by Python itself, which takes no proxy for an answer
            raise AttributeError(name)
        value = self.tracer.known(self, missing=None)
        if isinstance(value, torch.Tensor) and name in ("item", "tolist"):
            return getattr(self.tracer.number(self), name)
        if isinstance(value, torch.Tensor) and name == "ndim":
            return value.ndim  # of whatever size and number the images are
        if isinstance(value, torch.device | torch.dtype):
            return getattr(value, name)  # torch.autocast(x.device.type) takes no proxy
        if isinstance(value, tuple) and name in getattr(value, "__match_args__", ()):
            return self[value.__match_args__.index(name)]  # a named tuple
        if not self._may_have(name, value):
            raise AttributeError(f"{_type(value).__name__!r} object has no attribute {name!r}")
        return ValueAttribute(self, name)

    def _may_have(self, name: str, value) -> bool:
        """Whether there is such an attribute; an example is asked for where a tensor would have none."""
        if value is not None:
            return hasattr(_type(value), name) or name in getattr(value, "__dict__", ())
        if is_number(self.node):
            return hasattr(torch.Size, name) or hasattr(int, name)
        if self.node.op == "call_module" and self.node.target in self.tracer.user_leaves:
            return True  # only its own class knows what it gives
        return hasattr(torch.Tensor, name) or hasattr(self.tracer.known(self), name)

    def __setitem__(self, index, value):
        """A node of its own. Needed by torchvision's Swin, which fills its mask part by part."""
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})


def _augmented(function):
    """x += y as a node of its own; numbers, which cannot change, get a new value."""

    def method(self, other):
        if is_number(self.node):
            return NotImplemented  # Python then computes x + y
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return method


for _name in (row.augmented[0] for row in TABLE.values() if row.augmented):
    if hasattr(operator, _name):
        setattr(Value, f"__{_name}__", _augmented(getattr(operator, _name)))


class ValueAttribute(Value, fx.proxy.Attribute):
    """x.name: a method if it is called, else a node of its own."""

    def stands_for(self) -> type:
        """As of any other value, but without making a node: most attributes are methods."""
        return _type(getattr(self.tracer.known(self.root), self.attr))
