"""Symbolic tracing that knows shapes: a model in eval mode to an fx graph, or a clear refusal.

Beside each proxy the tracer keeps the value that an example image gives, so that control flow on
shapes ("same" padding, `if x.shape[-1] < k`) is followed instead of stopping the trace. Such a graph
is good for the example's image size only and says so in `graph_module.meta["fixed_image_size"]`.
"""

import contextlib
import inspect
import threading

import numpy
import torch
from torch import fx, nn
from torch.utils._pytree import tree_map_only

from ...ops import Kind, module_operation
from ...ops.modules import FOREIGN
from ...support.structure import TENSOR, structure_of
from ..errors import FAILURES
from ..example_images import quiet
from ..inputs import drop_unused_inputs, names_of_inputs
from ..sizes import depends_on_image, only_from_sizes
from ..surgery import add_module, attribute
from .examples import NEEDS_VALUES, Example
from .patching import patched
from .proxies import Value
from .tracing_errors import BatchDecides, CannotFollow, ExampleFails, NeedsExample, user_frame


def _is_proxy(value) -> bool:
    """Whatever isinstance() says while a trace is on."""
    return issubclass(type(value), fx.Proxy)


class ShapeTracer(fx.Tracer):
    """Traces a model that is in eval mode; see the module's docstring.

    Args:
        leaf_modules: types or names of modules that are not looked into.
        example: the first inputs, such as an image batch [B, C, H, W], on the model's device, or None.
        int_spaces: globals of files in which int() of a batch size stays a node.
    """

    proxy_buffer_attributes = True

    def __init__(
        self, leaf_modules=(), example: tuple[torch.Tensor, ...] | None = None, int_spaces=()
    ):
        super().__init__(param_shapes_constant=False)
        self.leaf_types = tuple(m for m in leaf_modules if isinstance(m, type))
        self.leaf_names = {m for m in leaf_modules if isinstance(m, str)}
        self.user_leaves: set[str] = set()
        self.inputs, self.int_spaces = example, int_spaces
        self.example: Example | None = None
        self.fixed_image_size = False
        self.output = TENSOR
        self.no_tensors: list[tuple[str, object]] = []  # (name, value) in the output
        self._variants: dict[tuple[bool, bool], Example] = {}
        self._thread: int | None = None  # the one that traces
        self._computing_example = False

    def trace(self, root, concrete_args=None):
        if self.inputs is not None:
            self.example = Example(self.inputs, root)
        self._thread = threading.get_ident()
        try:
            super().trace(root, concrete_args)
            self._drop_questions()
            drop_unused_inputs(self.graph)
            self._check_state()
            return self.graph
        finally:
            self._thread = None

    def _drop_questions(self) -> None:
        """Erase what control flow alone has asked: x.is_cuda, x.shape[0] == 1."""
        for node in reversed(self.graph.nodes):
            asked = self.example is not None and self.example.is_plain(node)
            if not node.users and (node.op == "get_attr" or asked and node.op.startswith("call_")):
                self.graph.erase_node(node)

    def _check_state(self) -> None:
        for node in self.graph.nodes:
            if node.op == "get_attr" and _is_proxy(attribute(self.root, node.target)):
                raise CannotFollow(
                    f"{node.target} is set after it was read, for the next call",
                    "make the network a pure function of the image",
                )

    def forget(self) -> None:
        """Let go of the model: libraries keep proxies, and a trace of fx's own our wrappers."""
        vars(self).clear()
        self.__init__()

    def create_args_for_root(self, root_fn, is_module, concrete_args=None):
        """One input for each argument of forward that must be given, the images first of all."""
        _, *parameters = inspect.signature(root_fn).parameters.values()
        names = names_of_inputs(parameters)
        others = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
        inputs = [self.create_proxy("placeholder", n, (), {}) for n in names or ["images"]]
        given = {name: self.create_proxy("placeholder", name, (), {}) for name in others}

        def run(*arguments):
            with patched(self.int_spaces):
                output = root_fn(*arguments, **given)
            return self._flat(output)

        return run, [self.root, *inputs]

    def _flat(self, output):
        """The tensors of the model's output one after the other; `output` keeps their structure."""
        self.output, leaves = structure_of(output, _is_proxy)
        if any(_is_proxy(leaf) and self._holds_several(leaf) for leaf in leaves):
            parts = [tuple(x) if self._holds_several(x) else x for x in leaves]
            self.output, leaves = structure_of(self.output.fill(parts), _is_proxy)
        kept = [x if _is_proxy(x) or isinstance(x, torch.Tensor) else None for x in leaves]
        names = zip(self.output.names(), leaves, kept, strict=True)
        self.no_tensors = [(name, leaf) for name, leaf, one in names if one is None]
        if self.no_tensors:  # refused; the rest of the graph is looked at all the same
            self.output, kept = structure_of(self.output.fill(kept), _is_proxy)
        return kept[0] if self.output is TENSOR else tuple(kept)

    def _holds_several(self, leaf) -> bool:
        """Whether a value of the graph is a tuple or list of tensors, such as of `torch.split`."""
        value = self.known(leaf, missing=None) if _is_proxy(leaf) else None
        return isinstance(value, (tuple, list)) and not isinstance(value, torch.Size)

    # -- what is asked for each module and each attribute of one ------------------------------

    @property
    def _aside(self) -> bool:
        """This is no part of the trace: an example is computed, or another thread runs a module."""
        return self._computing_example or threading.get_ident() != self._thread

    def call_module(self, m, forward, args, kwargs):
        if self._aside:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr, attr_val, parameter_proxy_cache):
        if self._aside or _is_proxy(attr_val):  # a buffer that forward has set
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def path_of_module(self, mod: nn.Module) -> str:
        """Where a module lies in the root; one that is made or kept outside of it is taken in.

        Needed by networks that call `self.layers[:4](x)` or `nn.ReLU()(x)`.
        """
        if mod not in self.submodule_paths:
            caller = next(reversed(self.module_stack), "").split("@")[0]
            name = type(mod).__name__.lower()
            path = add_module(self.root, f"{caller}.{name}".lstrip("."), mod)
            for name, member in mod.named_modules(prefix=path):
                self.submodule_paths.setdefault(member, name)
        return self.submodule_paths[mod]

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        if isinstance(module, self.leaf_types) or name in self.leaf_names:
            self.user_leaves.add(name)
            return True
        held = (*module._parameters.values(), *module._buffers.values(), *vars(module).values())
        if any(map(_is_proxy, held)):
            return False  # its weights are computed, as by torch.func.functional_call
        whole = module_operation(module).kind in (Kind.SITE, Kind.MASK, Kind.NORM)
        known = whole or type(module).__name__ in FOREIGN
        return known or super().is_leaf_module(module, name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return Value(node, self)

    def iter(self, obj: fx.Proxy):
        """The parts of a shape or of several tensors; fx itself knows how many `a, b = x.shape` are."""
        return iter([obj[i] for i in range(self.length(obj))])

    def create_arg(self, a):
        """Proxies first, for they pass for tensors; numbers of numpy as Python's own."""
        if _is_proxy(a):
            return a.node
        return super().create_arg(a.item() if isinstance(a, numpy.generic) else a)

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
        """Note what the example gives; `meta` gets the shape of a tensor, the `shapes` of several."""
        try:
            with self._computing(), quiet():
                self.example.follow(node)
        except NEEDS_VALUES:
            return  # no shape is known after it
        except FAILURES as error:
            if node.op == "call_module" and node.target in self.user_leaves:
                return  # it may do what fake tensors cannot
            raise ExampleFails(self.inputs, error) from error
        value = self.example.values.get(node)
        shapes = tree_map_only(torch.Tensor, lambda x: tuple(x.shape), value)
        if isinstance(value, torch.Tensor):
            node.meta["shape"] = shapes
        elif value is not None and not self.example.is_plain(node):
            node.meta["shapes"] = shapes

    @contextlib.contextmanager
    def _computing(self):
        self._computing_example = True
        try:
            yield
        finally:
            self._computing_example = False

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
        self._ask(proxy.node, lambda example: example.readings(proxy.node))
        return value

    def as_array(self, proxy: fx.Proxy):
        """What numpy calls to have a number; it takes the parts of a shape one by one."""
        if not isinstance(self.known(proxy), int | float):
            raise AttributeError("__array__")
        return lambda *dtype, **_: numpy.asarray(self.number(proxy), *dtype)

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
