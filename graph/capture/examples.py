"""What an example image gives at every node of a graph that is being traced.

Values are fake tensors: shapes without memory or work. Two variants of the example, one with a
larger image and one with more images, tell which numbers the image's size or the batch size decides.
"""

import contextlib
import operator
from collections.abc import Iterable

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedFakeTensorException,
)
from torch.utils._pytree import tree_leaves

from ...ops import Kind, module_operation
from ..errors import FAILURES
from ..example_images import quiet
from ..sizes import is_size, readings_of

# What fake tensors cannot do, while real ones can.
NEEDS_VALUES = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
)
# What these give has the shape of what they get: not worth a run.
_KEEP_SHAPE = (Kind.SITE, Kind.MASK, Kind.NORM)
_MISSING = object()


class Example:
    """The values that one batch of images gives at the nodes of a graph.

    Args:
        inputs: the first inputs, each [B, C, H, W] (or any other shape), on the device of the model.
        root: the model; its modules are called on fake tensors.
    """

    def __init__(self, inputs, root: nn.Module, fake: FakeTensorMode | None = None):
        self.fake = fake or FakeTensorMode(allow_non_fake_inputs=True)
        self.inputs = [self.fake.from_tensor(x) for x in inputs]
        self.root = root
        self.values: dict[fx.Node, object] = {}
        self._seen: set[fx.Node] = set()

    def variant(self, larger_image: bool, more_images: bool) -> "Example":
        """An example with images of twice the size, with one image more, or both."""
        inputs = []
        for x in self.inputs:
            shape = list(x.shape)
            if larger_image:
                shape[2:] = [2 * n for n in shape[2:]]
            if more_images:
                shape[0] += 1
            with self.fake:
                inputs.append(torch.empty(shape, dtype=x.dtype, device=x.device))
        return Example(inputs, self.root, self.fake)

    def follow(self, node: fx.Node) -> None:
        """Compute the value of a new node, where those of its inputs are known."""
        self._seen.add(node)
        try:
            known = fx.node.map_arg((node.args, node.kwargs), lambda n: self.values[n])
        except KeyError:
            return  # depends on something that has no example
        args, kwargs = known
        shapes_only = any(isinstance(value, FakeTensor) for value in tree_leaves(known))
        with torch.no_grad(), self.fake if shapes_only else contextlib.nullcontext():
            if node.op == "placeholder":
                number = sum(n.op == "placeholder" for n in self._seen) - 1
                if number < len(self.inputs):
                    self.values[node] = self.inputs[number]
            elif node.op == "get_attr":
                self.values[node] = operator.attrgetter(node.target)(self.root)
            elif node.op == "call_module":
                module = self.root.get_submodule(node.target)
                same = module_operation(module).kind in _KEEP_SHAPE and len(args) == 1
                self.values[node] = args[0] if same else module(*args, **kwargs)
            elif node.op == "call_function":
                self.values[node] = node.target(*args, **kwargs)
            elif node.op == "call_method":
                self.values[node] = getattr(args[0], node.target)(*args[1:], **kwargs)

    def catch_up(self, nodes: Iterable[fx.Node]) -> None:
        """Follow all nodes that were not seen yet; what this size does not allow stays unknown."""
        for node in nodes:
            if node not in self._seen and node.op != "output":
                with quiet(), contextlib.suppress(*FAILURES, *NEEDS_VALUES):
                    self.follow(node)

    def readings(self, node: fx.Node) -> list:
        """Values of the sizes and other readings that a value is made of; unknown ones equal nothing."""
        return [self._reading(n) for n in readings_of(node, self.reads)]

    def reads(self, node: fx.Node) -> bool:
        """Whether a node tells something of a tensor: x.shape, x.dtype, x.is_cuda."""
        return is_size(node) or (
            self.is_plain(node)
            and any(isinstance(self.values.get(n), torch.Tensor) for n in node.all_input_nodes)
        )

    def is_plain(self, node: fx.Node) -> bool:
        """Whether a value is known and holds no tensor: a size, a type, an answer."""
        value = self.values.get(node)
        return value is not None and not any(
            isinstance(v, torch.Tensor) for v in tree_leaves(value)
        )

    def _reading(self, node: fx.Node):
        value = self.values.get(node, _MISSING)
        return _Unknown() if value is _MISSING or isinstance(value, torch.Tensor) else value

    def length(self, node: fx.Node) -> int | None:
        value = self.values.get(node, _MISSING)
        return len(value) if isinstance(value, (tuple, list, torch.Tensor)) else None


class _Unknown:
    """Equals nothing, not even itself in another example."""
