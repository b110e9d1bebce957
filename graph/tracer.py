"""Symbolic tracing that knows shapes: a model in eval mode to an fx graph, or a clear refusal.

Beside each proxy the tracer keeps the value that an example image gives, so that control flow on
shapes ("same" padding, `if x.shape[-1] < k`) is followed instead of stopping the trace. Such a graph
is good for the example's image size only and says so in `graph_module.meta["fixed_image_size"]`.
"""

import contextlib
import copy
import difflib
import dis
import inspect
import linecache
import logging
import math
import operator
import traceback

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

from ..neurons import QCFS, ClippedReLU, SpikeMask
from .errors import Offence, UnconvertibleError

log = logging.getLogger(__name__)

_FRAMEWORK = ("/torch/", "/spikeswap/graph/", __file__)


class _Value(fx.Proxy):
    """A proxy that can be asked for a number, when the tracer knows an example of it."""

    def __bool__(self):
        return bool(self.tracer.number(self))

    def __int__(self):
        return int(self.tracer.number(self))

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
        return len(self.tracer.known(self))

    def __iter__(self):
        known = self.tracer.known(self, missing=None)
        if (
            isinstance(known, torch.Tensor)
            and known.dim()
            and not (known.shape[0] == len(self.tracer.example) and _depends_on_image(self.node))
        ):
            return iter([self[i] for i in range(len(known))])
        if isinstance(known, (tuple, list, torch.Size)):
            return iter([self[i] for i in range(len(known))])
        frame = inspect.currentframe().f_back
        at = next(
            (i for i in dis.get_instructions(frame.f_code) if i.offset == frame.f_lasti), None
        )
        if at is not None and at.opname == "UNPACK_SEQUENCE":  # a, b = x.shape
            return iter([self[i] for i in range(at.argval)])
        return super().__iter__()

    def __getattr__(self, name):
        return _ValueAttribute(self, name)

    def __iadd__(self, other):
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other):
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other):
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other):
        return self.tracer.create_proxy("call_function", operator.itruediv, (self, other), {})


class _ValueAttribute(_Value):
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


class ShapeTracer(fx.Tracer):
    """Traces a model that is in eval mode; see the module's docstring.

    Args:
        leaf_modules: types or names of modules that are not looked into.
        example: image batch [B, C, H, W] on the model's device, or None.
    """

    proxy_buffer_attributes = True

    def __init__(self, leaf_modules=(), example: torch.Tensor | None = None):
        super().__init__(param_shapes_constant=False)
        self.leaf_types = tuple(m for m in leaf_modules if isinstance(m, type))
        self.leaf_names = {m for m in leaf_modules if isinstance(m, str)}
        self.user_leaves: set[str] = set()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)  # shapes without memory or work
        self.example = None if example is None else self.fake.from_tensor(example)
        self.values: dict[fx.Node, object] = {}
        self.fixed_image_size = False
        self._running = False  # an example is being computed: nothing is traced

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        if isinstance(module, self.leaf_types) or name in self.leaf_names:
            self.user_leaves.add(name)
            return True
        if isinstance(module, (QCFS, ClippedReLU, SpikeMask, *LEAF_TYPES)):
            return True
        if type(module).__name__ in LEAF_NAMES:
            return True
        return super().is_leaf_module(module, name)

    def call_module(self, m, forward, args, kwargs):
        return (
            forward(*args, **kwargs)
            if self._running
            else super().call_module(m, forward, args, kwargs)
        )

    def getattr(self, attr, attr_val, parameter_proxy_cache):
        return attr_val if self._running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def create_node(self, kind, target, args, kwargs, name=None, type_expr=None):
        node = super().create_node(kind, target, args, kwargs, name, type_expr)
        frame = _user_frame()
        if frame is not None:
            node.meta["source"] = frame
        node.meta["module_path"] = next(reversed(self.module_stack), "")
        if self.example is not None:
            self._running = True
            try:
                self._remember(node)
            finally:
                self._running = False
        return node

    def _remember(self, node: fx.Node) -> None:
        try:
            known = fx.node.map_arg((node.args, node.kwargs), lambda n: self.values[n])
        except KeyError:
            return  # depends on something that has no example
        args, kwargs = known
        shapes_only = any(isinstance(value, FakeTensor) for value in tree_leaves(known))
        with torch.no_grad(), self.fake if shapes_only else contextlib.nullcontext():
            if node.op == "placeholder":
                if not any(n.op == "placeholder" for n in self.values):
                    self.values[node] = self.example
            elif node.op == "get_attr":
                self.values[node] = operator.attrgetter(node.target)(self.root)
            elif node.op == "call_module":
                self.values[node] = self.root.get_submodule(node.target)(*args, **kwargs)
            elif node.op == "call_function":
                self.values[node] = node.target(*args, **kwargs)
            elif node.op == "call_method":
                self.values[node] = getattr(args[0], node.target)(*args[1:], **kwargs)
        if isinstance(self.values.get(node), torch.Tensor):
            node.meta["shape"] = tuple(self.values[node].shape)

    def known(self, proxy: fx.Proxy, missing=...):
        """The example's value of a proxy."""
        if proxy.node in self.values:
            return self.values[proxy.node]
        if missing is not ...:
            return missing
        raise fx.proxy.TraceError("the number of an image is asked for while the graph is traced")

    def number(self, proxy: fx.Proxy):
        """A size or a comparison of sizes as a Python number; values of pixels are refused."""
        value = self.known(proxy)
        if isinstance(value, torch.Tensor) and not _only_from_sizes(proxy.node):
            raise fx.proxy.TraceError("control flow depends on the values of a tensor")
        if _depends_on_batch(proxy.node):
            raise fx.proxy.TraceError(
                "the batch size is turned into a number; use -1 for the batch "
                "axis, as in view(-1, ...)"
            )
        if not _asks_rank_only(proxy.node):
            self.fixed_image_size = True
        return value


# Modules that hide control flow or state and that the passes know as a whole.
LEAF_NAMES = {
    "DropPath",
    "BatchNormAct2d",
    "TokenBatchNorm",
    "StochasticDepth",
    "DropBlock2d",
    "LayerNorm2d",
    "LayerNorm",
    "RMSNorm",
    "GroupNorm1",
}
LEAF_TYPES: tuple[type[nn.Module], ...] = (nn.modules.batchnorm._BatchNorm,)


def _only_from_sizes(node: fx.Node) -> bool:
    if node.op in ("placeholder", "call_module"):
        return False
    return all(
        _only_from_sizes(n) or n.op == "get_attr" or _is_size(n) for n in node.all_input_nodes
    )


def _is_size(node: fx.Node) -> bool:
    return node.target in ("size", "dim", "numel") or (
        node.target is getattr and node.args[1] in ("shape", "ndim")
    )


def _depends_on_batch(node: fx.Node) -> bool:
    """Whether a number comes from the size of axis 0 of something that depends on the image."""
    if _is_size(node):
        if not _depends_on_image(node.args[0]):
            return False
        return node.target == "numel" or (
            node.target == "size" and len(node.args) > 1 and node.args[1] == 0
        )
    if node.target is operator.getitem and _is_size(node.args[0]):
        tensor = node.args[0].args[0]
        return node.args[1] == 0 and _depends_on_image(tensor)
    return any(_depends_on_batch(n) for n in node.all_input_nodes)


def _asks_rank_only(node: fx.Node) -> bool:
    if _is_size(node):
        return node.target == "dim" or (node.target is getattr and node.args[1] == "ndim")
    return all(map(_asks_rank_only, node.all_input_nodes)) and bool(node.all_input_nodes)


def _depends_on_image(node: fx.Node) -> bool:
    return node.op == "placeholder" or any(map(_depends_on_image, node.all_input_nodes))


def _user_frame() -> tuple[str, int] | None:
    """File and line, in the user's model, of the operation that is being traced."""
    for frame in traceback.StackSummary.extract(traceback.walk_stack(None), lookup_lines=False):
        if not any(part in frame.filename for part in _FRAMEWORK) and frame.name != "<module>":
            return frame.filename, frame.lineno
    return None


def about(model: nn.Module) -> dict:
    """What a model says of itself: mask_sites, img_size, in_chans, num_classes, model_name.

    It travels in the `meta` of a GraphModule, which deep copies keep (attributes they do not).
    """
    if isinstance(model, fx.GraphModule) and "about" in model.meta:
        return model.meta["about"]
    names = ("mask_sites", "img_size", "in_chans", "num_classes", "model_name")
    return {
        name: getattr(model, name)
        for name in names
        if isinstance(getattr(model, name, None), (int, str, list, tuple))
    }


def guess_example(model: nn.Module) -> torch.Tensor | None:
    """One image of the size that the model was made for, if it says so, else None."""
    size = None
    if isinstance(model, fx.GraphModule) and model.meta.get("image_shape"):
        return _like(model, torch.zeros(1, *model.meta["image_shape"]))
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
    return _like(model, torch.zeros(1, *size))


def _check_leaves(model: nn.Module, leaf_modules) -> None:
    if isinstance(leaf_modules, (str, nn.Module)):
        raise ValueError(f"leaf_modules {leaf_modules!r} must be a list of types, modules or names")
    names = dict(model.named_modules())
    for leaf in leaf_modules:
        if isinstance(leaf, str) and leaf not in names:
            near = difflib.get_close_matches(leaf, names, n=3)
            raise ValueError(
                f"leaf module {leaf!r} is no module of the network; "
                f"{'did you mean' if near else 'modules are'} "
                f"{', '.join(near or list(names)[1:8])}?"
            )


def copy_model(model: nn.Module) -> nn.Module:
    """A deep copy without the user's hooks, also of a model that weight norm left tensors in."""
    computed = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in module.__dict__.values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }
    model = copy.deepcopy(model, computed)
    remove_hooks(model)
    return model


def remove_hooks(model: nn.Module) -> None:
    """Take the user's forward and backward hooks off a copy; they would see proxies."""
    for module in model.modules():
        for hooks in (module._forward_hooks, module._backward_hooks, module._backward_pre_hooks):
            hooks.clear()
        for key, hook in list(module._forward_pre_hooks.items()):
            if type(hook).__name__ not in ("WeightNorm", "SpectralNorm"):
                del module._forward_pre_hooks[key]


def _like(model: nn.Module, example: torch.Tensor) -> torch.Tensor:
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    return example if weight is None else example.to(weight.device, weight.dtype)


def trace(model: nn.Module, leaf_modules=(), example_inputs=None) -> fx.GraphModule:
    """Trace a copy of `model` in eval mode; the caller's model is left as it was.

    Returns a GraphModule whose modules keep the paths that they have in `model`. Its `meta` holds
    `example` (image batch or None), `fixed_image_size` and `training` (the caller's mode).

    Raises:
        UnconvertibleError: tracing failed; names the line of the module and what to do.
    """
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        model = model.module
    training = model.training
    _check_leaves(model, leaf_modules)
    leaf_names = [
        name
        for name, module in model.named_modules()
        if any(module is leaf for leaf in leaf_modules)
    ]
    leaf_modules = [leaf for leaf in leaf_modules if not isinstance(leaf, nn.Module)] + leaf_names
    model = copy_model(model).eval()
    if isinstance(example_inputs, (tuple, list)):
        example_inputs = example_inputs[0]
    if example_inputs is not None and not isinstance(example_inputs, torch.Tensor):
        raise ValueError(
            f"example_inputs is a {type(example_inputs).__name__}; give one batch of "
            "images as a tensor [B, C, H, W]"
        )
    if example_inputs is not None:
        examples = [_like(model, example_inputs[:2].detach())]
    else:
        examples = [e for e in (guess_example(model),) if e is not None] + [None, _usual_image]
    example, tracer, graph = _first_that_traces(model, leaf_modules, examples)
    guessed = (
        examples[-1] is _usual_image
        and len(examples) > 1
        and example is not None
        and not any(example is e for e in examples)
    )
    meta = {key: node.meta for key, node in ((n.name, n) for n in graph.nodes)}
    module = fx.GraphModule(model, graph, type(model).__name__)
    for node in module.graph.nodes:
        node.meta.update(meta.get(node.name, {}))
    if guessed and tracer.fixed_image_size:
        module.meta["image_shape"] = tuple(example.shape[1:])
    module.meta.update(
        example=None if guessed else example,
        fixed_image_size=tracer.fixed_image_size,
        training=training,
        leaves=frozenset(tracer.user_leaves),
    )
    module.meta["about"] = about(model)
    if isinstance(model, fx.GraphModule) and model.meta.get("fixed_image_size"):
        module.meta["fixed_image_size"] = True
    log.info("traced %s: %d nodes", type(model).__name__, len(graph.nodes))
    return module


def _first_that_traces(model: nn.Module, leaf_modules, examples: list):
    """(example, tracer, graph) of the first example that works; the first failure otherwise."""
    failure = None
    for example in examples:
        example = example(model) if callable(example) else example
        tracer = ShapeTracer(leaf_modules, example)
        try:
            with torch.no_grad():
                return example, tracer, tracer.trace(model)
        except UnconvertibleError:
            raise
        except (
            fx.proxy.TraceError,
            TypeError,
            ValueError,
            RuntimeError,
            AttributeError,
            NameError,
            LookupError,
            NotImplementedError,
            AssertionError,
        ) as error:
            failure = failure or (_explain(error, tracer, given=len(examples) == 1), error)
    raise failure[0] from failure[1]


def _usual_image(model: nn.Module) -> torch.Tensor | None:
    """224 x 224, for a network that says nothing of its size and whose control flow asks for it."""
    first = next((m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))), None)
    if not isinstance(first, nn.Conv2d):
        return None
    return _like(model, torch.zeros(1, first.in_channels, 224, 224))


def _explain(error: Exception, tracer: ShapeTracer, given: bool) -> UnconvertibleError:
    """A tracing failure in the user's terms."""
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if not any(part in f.filename for part in _FRAMEWORK)
    ]
    path = next(reversed(tracer.module_stack), "") if tracer.module_stack else ""
    place = frames[-1] if frames else None
    line = linecache.getline(place.filename, place.lineno).strip() if place else ""
    if not given:
        remedy = (
            "give example_inputs=images, so that control flow on shapes can be followed, or "
            f"mark the module as a leaf: leaf_modules=[{path.split('@')[0]!r}]"
        )
    else:
        remedy = (
            f"rewrite the line without a decision on tensor values, or mark the module as a "
            f"leaf: leaf_modules=[{path.split('@')[0]!r}]"
        )
    return UnconvertibleError(
        [
            Offence(
                path.split("@")[0] or "(the model itself)",
                f"cannot be traced: {str(error) or type(error).__name__}; line: {line}",
                (place.filename, place.lineno) if place else None,
                remedy,
            )
        ]
    )
