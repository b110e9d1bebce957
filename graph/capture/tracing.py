"""`trace`: the attempts with one example after another, and the graph that comes of them."""

import copy
import itertools
import logging
import threading

import torch
from torch import fx, nn

from ...support.messages import near_names
from ...support.structure import TENSOR, inputs_of
from ..copying import about, copy_model, unwrap
from ..errors import FAILURES, UnconvertibleError
from ..example_images import guess_example, like_weights, usual_images
from ..image_size import check_image_size
from ..inputs import as_batch, input_names, shapes_of, zeros
from ..offences import others_refused
from ..outputs import no_tensor
from ..surgery import free_name, rename
from .tracer import ShapeTracer
from .tracing_errors import NeedsExample, explain

log = logging.getLogger(__name__)

_ONE_AT_A_TIME = threading.RLock()  # fx, too, patches nn.Module while it traces


def trace(
    model: nn.Module, leaf_modules=(), example_inputs=None, sites: str = "relu"
) -> fx.GraphModule:
    """Trace a copy of `model` in eval mode; the caller's model is left as it was.

    Returns a GraphModule whose modules keep the paths that they have in `model` (but for names that
    cannot stand in Python source). Its `meta` holds `example` (image batch or None),
    `fixed_image_size` and `training` (the caller's mode).

    Args:
        sites: what is said of smooth activations if tracing fails, see `prepare`.

    Raises:
        UnconvertibleError: tracing failed; names the line of the module and what to do.
    """
    model = unwrap(model)
    leaf_modules = _leaves(model, leaf_modules)
    leaf_modules += _meta(model).get("leaves", ())  # of an earlier trace, whose leaves stay leaves
    given = _given_example(model, example_inputs)
    guessed = _guessed(model) if given is None else given
    with _ONE_AT_A_TIME:
        tracer = _first_that_traces(model, leaf_modules, guessed, given is not None, sites)
    copied, example = tracer.root, tracer.inputs
    fallback = example is not None and example is not guessed
    graph = copy.deepcopy(tracer.graph)
    paths = _valid_names(copied, graph)
    module = fx.GraphModule(copied, graph, type(model).__name__)
    if fallback and tracer.fixed_image_size:
        module.meta["image_shape"] = shapes_of(example)[0]
    module.meta.update(
        example=None if fallback or example is None else as_batch(example),
        traced_with=None if example is None else shapes_of(example),
        fixed_image_size=tracer.fixed_image_size,
        training=model.training,
        leaves=frozenset(paths.get(name, name) for name in tracer.user_leaves),
    )
    module.meta["about"] = about(model)
    if tracer.output is not TENSOR:
        module.meta["output"] = tracer.output
    if tracer.no_tensors:
        module.meta["offences"] = [no_tensor(*found) for found in tracer.no_tensors]
    if _meta(model).get("fixed_image_size"):
        module.meta["fixed_image_size"] = True
    tracer.forget()
    log.info("traced %s: %d nodes", type(model).__name__, len(graph.nodes))
    return module


def _meta(model: nn.Module) -> dict:
    """What an earlier trace of ours has noted; torchvision's feature extractors are graphs without."""
    return getattr(model, "meta", {}) if isinstance(model, fx.GraphModule) else {}


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


def _guessed(model: nn.Module) -> tuple[torch.Tensor, ...] | None:
    """What a graph was made with, or an image of the size that a model names."""
    example = zeros(model)
    example = guess_example(model) if example is None else example
    return None if example is None else tuple(like_weights(model, x) for x in inputs_of(example))


def _given_example(model: nn.Module, example_inputs) -> tuple[torch.Tensor, ...] | None:
    """As many of the given tensors as the network has inputs, two images of each."""
    if isinstance(example_inputs, (tuple, list)) and example_inputs:
        example_inputs = tuple(example_inputs[: len(input_names(model))])
    if example_inputs is None:
        return None
    for one in inputs_of(example_inputs):
        if not isinstance(one, torch.Tensor):
            raise ValueError(
                f"example_inputs is a {type(one).__name__}; give one batch of "
                "images as a tensor [B, C, H, W]"
            )
    example = inputs_of(example_inputs)
    if _meta(model).get("fixed_image_size"):
        check_image_size(example[0], _meta(model).get("image_shape") or example[0].shape[1:])
    return tuple(like_weights(model, x[:2].detach()) for x in example)


def _first_that_traces(
    model: nn.Module, leaf_modules, guessed, given: bool, sites: str
) -> ShapeTracer:
    """The tracer of the first example that works; otherwise the first failure that tells something."""
    failure = None
    examples = [] if guessed is None else [guessed]
    usual = ((image,) for image in usual_images(model))
    for example in examples if given else itertools.chain(examples, [None], usual):
        tracer, error = _attempt(model, leaf_modules, example)
        if error is None:
            return tracer
        if failure is None or isinstance(failure[1], NeedsExample):
            where = explain(error, tracer.module_stack, given)
            others = others_refused(tracer.root, tracer.graph, tracer.user_leaves, sites)
            failure = UnconvertibleError([where, *others]), error
        if example is not None and example is not guessed and not getattr(error, "misfit", False):
            break  # which another size does not change
    raise failure[0] from failure[1]


def _attempt(model: nn.Module, leaf_modules, example) -> tuple[ShapeTracer, Exception | None]:
    """(tracer, None), or with its failure; a file that calls int() of a batch size is traced again."""
    int_spaces: list[dict] = []
    while True:
        tracer = ShapeTracer(leaf_modules, example, int_spaces)
        try:
            with torch.no_grad():
                tracer.trace(copy_model(model).eval())  # forward may leave proxies in it
            return tracer, None
        except UnconvertibleError:
            raise
        except FAILURES as error:
            space = getattr(error, "space", None)
            if space is None or any(space is known for known in int_spaces):
                return tracer, error
            int_spaces.append(space)


def _valid_names(model: nn.Module, graph: fx.Graph) -> dict[str, str]:
    """Names that can stand in Python source, for modules and tensors of the copy; {old path: new}."""
    bare = {True: fx.GraphModule(nn.Module(), fx.Graph()), False: nn.Module()}
    names: dict[tuple[nn.Module, str], str] = {}
    paths: dict[str, str] = {}
    for node in graph.nodes:
        if node.op not in ("call_module", "get_attr"):
            continue
        owner, used = model, []
        for part in node.target.split("."):
            if (owner, part) not in names:
                valid = free_name(bare[owner is model], part)
                names[owner, part] = part if valid == part else free_name(owner, valid)
                if valid != part:
                    rename(owner, part, names[owner, part])
            used.append(names[owner, part])
            owner = getattr(owner, used[-1])
        paths[node.target] = node.target = ".".join(used)
    return paths
