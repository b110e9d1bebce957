"""What an example image gives at every node of a graph that is being traced.

Values are fake tensors: shapes without memory or work. Two variants of the example, one with a
larger image and one with more images, tell which numbers the image's size or the batch size decides.
"""

import contextlib
import logging
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

from ...neurons import QCFS, ClippedReLU, SpikeMask
from ..copying import about
from ..sizes import sizes_of

# What an operation may raise on an image of a size that the network is not made for.
FAILURES = (TypeError, ValueError, RuntimeError, LookupError, AttributeError, AssertionError)
# What fake tensors cannot do, while real ones can.
NEEDS_VALUES = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
)
# Layers of torch and our own that give the shape that they get: not worth a run.
_KEEP_SHAPE = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.dropout._DropoutNd,
    nn.ReLU,
    nn.Hardtanh,
    nn.LeakyReLU,
    nn.GELU,
    nn.SiLU,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.Identity,
    QCFS,
    ClippedReLU,
    SpikeMask,
)
_NEURONS = QCFS.__module__.removesuffix("qcfs")
_MISSING = object()


def _keeps_shape(module: nn.Module) -> bool:
    home = type(module).__module__
    return isinstance(module, _KEEP_SHAPE) and home.startswith(("torch.nn.", _NEURONS))


@contextlib.contextmanager
def quiet():
    """torch logs at length what an operation on fake tensors refuses; we only take note."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


class Example:
    """The values that one batch of images gives at the nodes of a graph.

    Args:
        images: [B, C, H, W] (or any other shape), on the device of the model.
        root: the model; its modules are called on fake tensors.
    """

    def __init__(self, images: torch.Tensor, root: nn.Module, fake: FakeTensorMode | None = None):
        self.fake = fake or FakeTensorMode(allow_non_fake_inputs=True)
        self.images = self.fake.from_tensor(images)
        self.root = root
        self.values: dict[fx.Node, object] = {}
        self._seen: set[fx.Node] = set()

    def variant(self, larger_image: bool, more_images: bool) -> "Example":
        """An example with images of twice the size, with one image more, or both."""
        shape = list(self.images.shape)
        if larger_image:
            shape[2:] = [2 * n for n in shape[2:]]
        if more_images:
            shape[0] += 1
        with self.fake:
            images = torch.empty(shape, dtype=self.images.dtype, device=self.images.device)
        return Example(images, self.root, self.fake)

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
                if not any(n.op == "placeholder" for n in self.values):
                    self.values[node] = self.images
            elif node.op == "get_attr":
                self.values[node] = operator.attrgetter(node.target)(self.root)
            elif node.op == "call_module":
                module = self.root.get_submodule(node.target)
                same = _keeps_shape(module) and len(args) == 1
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

    def sizes(self, node: fx.Node) -> list:
        """Values of the sizes that a number is made of; unknown ones equal nothing."""
        return [_as_numbers(self.values.get(n, _MISSING)) for n in sizes_of(node)]

    def length(self, node: fx.Node) -> int | None:
        value = self.values.get(node, _MISSING)
        return len(value) if isinstance(value, (tuple, list, torch.Tensor)) else None


def _as_numbers(value):
    if isinstance(value, (tuple, list)):
        return tuple(int(v) for v in value)
    return int(value) if isinstance(value, (int, float)) else _Unknown()


class _Unknown:
    """Equals nothing, not even itself in another example."""


def guess_example(model: nn.Module) -> torch.Tensor | None:
    """One image of the size that the model was made for, if it says so, else None."""
    size = None
    if isinstance(model, fx.GraphModule) and model.meta.get("image_shape"):
        return like_weights(model, torch.zeros(1, *model.meta["image_shape"]))
    config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    if isinstance(config, dict) and config.get("input_size"):
        size = tuple(config["input_size"])
    elif {"img_size", "in_chans"} <= about(model).keys():
        known = about(model)
        size = (known["in_chans"], known["img_size"], known["img_size"])
    if size is None:
        return None
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None and config:
        size = (first.in_channels, *size[1:])
    return like_weights(model, torch.zeros(1, *size))


def usual_image(model: nn.Module) -> torch.Tensor | None:
    """224 x 224, for a network that says nothing of its size and whose control flow asks for it."""
    first = next((m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))), None)
    if not isinstance(first, nn.Conv2d):
        return None
    return like_weights(model, torch.zeros(1, first.in_channels, 224, 224))


def like_weights(model: nn.Module, example: torch.Tensor) -> torch.Tensor:
    """The example on the device and of the type of the model's weights."""
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    return example if weight is None else example.to(weight.device, weight.dtype)
