"""Symbolic tracing that knows shapes: a model in eval mode to an fx graph, or a clear refusal.

Beside each proxy the tracer keeps the value that an example image gives, so that control flow on
shapes ("same" padding, `if x.shape[-1] < k`) is followed instead of stopping the trace. Such a graph
is good for the example's image size only and says so in `graph_module.meta["fixed_image_size"]`.
"""

import contextlib
import functools
import inspect
import logging

import torch
from torch import fx, nn

from ..neurons import QCFS, ClippedReLU, SpikeMask
from ..support.messages import near_names
from .copying import about, copy_model, unwrap
from .errors import UnconvertibleError
from .examples import NEEDS_VALUES, Example, guess_example, like_weights, quiet, usual_image
from .image_size import check_image_size
from .offences import others_refused
from .patching import (
    factories_see_proxies,
    int_sees_proxies,
    wrapped_functions_are_followed,
)
from .proxies import Value
from .sizes import depends_on_image, only_from_sizes
from .tracing_errors import (
    FAILURES,
    BatchDecides,
    CannotFollow,
    ExampleDoesNotFit,
    NeedsExample,
    explain,
    user_frame,
)

log = logging.getLogger(__name__)

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


class ShapeTracer(fx.Tracer):
    """Traces a model that is in eval mode; see the module's docstring.

    Args:
        leaf_modules: types or names of modules that are not looked into.
        example: image batch [B, C, H, W] on the model's device, or None.
        int_spaces: globals of files in which int() of a batch size stays a node.
    """

    proxy_buffer_attributes = True

    def __init__(self, leaf_modules=(), example: torch.Tensor | None = None, int_spaces=()):
        super().__init__(param_shapes_constant=False)
        self.leaf_types = tuple(m for m in leaf_modules if isinstance(m, type))
        self.leaf_names = {m for m in leaf_modules if isinstance(m, str)}
        self.user_leaves: set[str] = set()
        self.images, self.int_spaces = example, int_spaces
        self.example: Example | None = None
        self.fixed_image_size = False
        self._variants: dict[tuple[bool, bool], Example] = {}
        self._running = False  # an example is being computed: nothing is traced

    def trace(self, root, concrete_args=None):
        if self.images is not None:
            self.example = Example(self.images, root)
        with (
            factories_see_proxies(),
            wrapped_functions_are_followed(),
            int_sees_proxies(self.int_spaces),
        ):
            return super().trace(root, concrete_args)

    def create_args_for_root(self, root_fn, is_module, concrete_args=None):
        """One input for each argument of forward that must be given, the images first of all."""
        _, *parameters = inspect.signature(root_fn).parameters.values()
        named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        names = [p.name for i, p in enumerate(named) if i == 0 or p.default is p.empty]
        others = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
        inputs = [self.create_proxy("placeholder", n, (), {}) for n in names or ["images"]]
        given = {name: self.create_proxy("placeholder", name, (), {}) for name in others}
        return functools.partial(root_fn, **given), [self.root, *inputs]

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
        if self._running:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr, attr_val, parameter_proxy_cache):
        if self._running:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return Value(node, self)

    def create_node(self, kind, target, args, kwargs, name=None, type_expr=None):
        node = super().create_node(kind, target, args, kwargs, name, type_expr)
        frame = user_frame()
        if frame is not None:
            node.meta["source"] = frame
        node.meta["module_path"] = next(reversed(self.module_stack), "")
        if self.example is not None:
            self._follow_example(node)
        return node

    def _follow_example(self, node: fx.Node) -> None:
        try:
            with self._computing(), quiet():
                self.example.follow(node)
        except NEEDS_VALUES:
            return  # no shape is known behind it
        except FAILURES as error:
            if node.op == "call_module" and node.target in self.user_leaves:
                return  # it may do what fake tensors cannot
            raise ExampleDoesNotFit(self.images.shape, error) from error
        value = self.example.values.get(node)
        if isinstance(value, torch.Tensor):
            node.meta["shape"] = tuple(value.shape)

    @property
    def seen(self) -> fx.Graph:
        """What is traced so far."""
        return getattr(self, "graph", None) or fx.Graph()

    @contextlib.contextmanager
    def _computing(self):
        self._running = True
        try:
            yield
        finally:
            self._running = False

    # -- questions of the proxies ------------------------------------------------------------

    def known(self, proxy: fx.Proxy, missing=...):
        """The example's value of a proxy."""
        if self.example is not None and proxy.node in self.example.values:
            return self.example.values[proxy.node]
        if missing is not ...:
            return missing
        raise NeedsExample

    def number(self, proxy: fx.Proxy):
        """A size or a comparison of sizes as a Python number; values of pixels are refused."""
        value = self.known(proxy)
        if isinstance(value, torch.Tensor) and not only_from_sizes(proxy.node):
            raise CannotFollow(
                "control flow depends on the values of a tensor",
                "rewrite the line without a decision on tensor values",
            )
        self._ask(proxy.node, lambda example: example.sizes(proxy.node))
        return value

    def length(self, proxy: fx.Proxy) -> int:
        """len() of a shape, of a tuple of tensors or of a tensor."""
        value = self.known(proxy)
        if isinstance(value, torch.Size):  # its rank
            return len(value)
        self._ask(proxy.node, lambda example: example.length(proxy.node))
        return len(value)

    def _ask(self, node: fx.Node, answer) -> None:
        """Note what an answer depends on; the number of images must not decide it."""
        if not depends_on_image(node):
            return
        here = answer(self.example)
        if answer(self._variant(True, True)) == here:
            return
        if answer(self._variant(False, True)) != here:
            raise BatchDecides
        if answer(self._variant(True, False)) != here:
            self.fixed_image_size = True

    def _variant(self, larger_image: bool, more_images: bool) -> Example:
        key = larger_image, more_images
        if key not in self._variants:
            self._variants[key] = self.example.variant(*key)
        with self._computing():
            self._variants[key].catch_up(self.graph.nodes)
        return self._variants[key]


def trace(model: nn.Module, leaf_modules=(), example_inputs=None) -> fx.GraphModule:
    """Trace a copy of `model` in eval mode; the caller's model is left as it was.

    Returns a GraphModule whose modules keep the paths that they have in `model`. Its `meta` holds
    `example` (image batch or None), `fixed_image_size` and `training` (the caller's mode).

    Raises:
        UnconvertibleError: tracing failed; names the line of the module and what to do.
    """
    model = unwrap(model)
    training = model.training
    leaf_modules = _leaves(model, leaf_modules)
    model = copy_model(model).eval()
    given = _given_example(model, example_inputs)
    if given is not None:
        examples = [given]
    else:
        examples = [e for e in (guess_example(model),) if e is not None] + [None, usual_image]
    example, tracer, graph = _first_that_traces(model, leaf_modules, examples, given is not None)
    fallback = example is not None and not any(example is e for e in examples)
    meta = {node.name: node.meta for node in graph.nodes}
    module = fx.GraphModule(model, graph, type(model).__name__)
    for node in module.graph.nodes:
        node.meta.update(meta.get(node.name, {}))
    if fallback and tracer.fixed_image_size:
        module.meta["image_shape"] = tuple(example.shape[1:])
    module.meta.update(
        example=None if fallback else example,
        traced_with=None if example is None else tuple(example.shape),
        fixed_image_size=tracer.fixed_image_size,
        training=training,
        leaves=frozenset(tracer.user_leaves),
    )
    module.meta["about"] = about(model)
    if isinstance(model, fx.GraphModule) and model.meta.get("fixed_image_size"):
        module.meta["fixed_image_size"] = True
    log.info("traced %s: %d nodes", type(model).__name__, len(graph.nodes))
    return module


def _leaves(model: nn.Module, leaf_modules) -> list:
    """The user's leaf modules as types and names, or ValueError for a name that is none."""
    if isinstance(leaf_modules, (str, type, nn.Module)):
        raise ValueError(f"leaf_modules {leaf_modules!r} must be a list of types, modules or names")
    names = dict(model.named_modules())
    for leaf in leaf_modules:
        if isinstance(leaf, str) and leaf not in names:
            raise ValueError(
                f"leaf module {leaf!r} is no module of the network; {near_names(leaf, list(names)[1:])}"
            )
    instances = [name for name, m in names.items() if any(m is leaf for leaf in leaf_modules)]
    return [leaf for leaf in leaf_modules if not isinstance(leaf, nn.Module)] + instances


def _given_example(model: nn.Module, example_inputs) -> torch.Tensor | None:
    if isinstance(example_inputs, (tuple, list)) and example_inputs:
        example_inputs = example_inputs[0]
    if example_inputs is None:
        return None
    if not isinstance(example_inputs, torch.Tensor):
        raise ValueError(
            f"example_inputs is a {type(example_inputs).__name__}; give one batch of "
            "images as a tensor [B, C, H, W]"
        )
    if isinstance(model, fx.GraphModule) and model.meta.get("fixed_image_size"):
        check_image_size(example_inputs, model.meta.get("image_shape") or example_inputs.shape[1:])
    return like_weights(model, example_inputs[:2].detach())


def _first_that_traces(model: nn.Module, leaf_modules, examples: list, given: bool):
    """(example, tracer, graph) of the first example that works; the first failure otherwise."""
    failure = None
    int_spaces: list[dict] = []
    tries = list(examples)
    while tries:
        example = tries.pop(0)
        example = example(model) if callable(example) else example
        tracer = ShapeTracer(leaf_modules, example, int_spaces)
        try:
            with torch.no_grad():
                return example, tracer, tracer.trace(model)
        except UnconvertibleError:
            raise
        except FAILURES as error:
            space = getattr(error, "space", None)
            if space is not None and not any(space is known for known in int_spaces):
                int_spaces.append(space)
                tries.insert(0, example)
            elif failure is None or isinstance(failure[1], NeedsExample):
                where = explain(error, tracer.module_stack, given)
                others = others_refused(model, tracer.seen, tracer.user_leaves)
                failure = (UnconvertibleError([where, *others]), error)
    raise failure[0] from failure[1]
