"""What a network takes: the names of its inputs, and examples of several."""

import inspect
from collections.abc import Callable

import torch
from torch import fx, nn

from ..support.structure import inputs_of
from .copying import unwrap
from .errors import Offence


def input_names(model: Callable) -> list[str]:
    """Arguments of forward that must be given, the images first of all; `timesteps` is no input.

    Of a network that was converted or prepared its own inputs.
    """
    known = getattr(model, "inputs", None)
    if isinstance(known, tuple) and hasattr(model, "sites"):  # a `SpikingNetwork`
        return list(known)
    model = getattr(model, "graph", model) if not isinstance(model, nn.Module) else model
    scripted = isinstance(model, torch.jit.ScriptModule)
    model = unwrap(model) if isinstance(model, nn.Module) and not scripted else model
    forward = model.forward if isinstance(model, nn.Module) else model
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):  # no signature to be had, such as of a built-in
        return ["images"]
    return names_of_inputs(parameters) or ["images"]


def names_of_inputs(parameters: list[inspect.Parameter]) -> list[str]:
    """Of the parameters of a forward method, those that are given by place."""
    named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [p.name for i, p in enumerate(named) if i == 0 or p.default is p.empty]
    return [name for name in names if name != "timesteps"]


def shapes_of(inputs) -> list[tuple[int, ...]]:
    """Shape of one image of every input: [C, H, W] of [B, C, H, W]."""
    return [tuple(x.shape[1:]) for x in inputs_of(inputs)]


def known_shapes(gm: nn.Module) -> list[tuple[int, ...]]:
    """Shape of one image of every input that a graph was made with; empty if it does not say."""
    meta = getattr(gm, "meta", {}) if isinstance(gm, fx.GraphModule) else {}
    first = meta.get("image_shape")
    return [tuple(shape) for shape in (first, *meta.get("more_shapes", ()))] if first else []


def as_batch(inputs):
    """One input as the tensor, several as a tuple."""
    inputs = (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)
    return inputs[0] if len(inputs) == 1 else inputs


def drop_unused_inputs(graph: fx.Graph) -> None:
    """Erase the last inputs that nothing reads; the first one stays."""
    placeholders = [n for n in graph.nodes if n.op == "placeholder"]
    for node in reversed(placeholders[1:]):
        if node.users:
            return
        graph.erase_node(node)


def input_offences(gm: fx.GraphModule) -> list[Offence]:
    """Several inputs of which no example is known."""
    names = [str(n) for n in gm.graph.nodes if n.op == "placeholder"]
    example = gm.meta.get("example")
    given = len(known_shapes(gm) if example is None else inputs_of(example))
    if len(names) in (1, given):
        return []
    listed = ", ".join(names)
    what = f"{len(names)} inputs ({listed}), of which {given} are known"
    remedy = f"give example_inputs=({listed}), a batch of floating point numbers [B, ...] of each"
    return [Offence("(inputs)", what, None, remedy)]


def zeros(gm: nn.Module) -> tuple[torch.Tensor, ...] | None:
    """One image of zeros of every input, if the graph says what it was made with."""
    shapes = known_shapes(gm)
    return tuple(torch.zeros(1, *shape) for shape in shapes) or None
