"""A network whose control flow followed one image size refuses images of any other size."""

import re

import torch
from torch import fx
from torch.fx.node import has_side_effect
from torch.overrides import handle_torch_function, has_torch_function_unary

from .inputs import known_shapes

_SHAPES = re.compile(
    r"\b(shapes?|sizes?|dim(ension)?s?|channels?|elements|[1-5]-?D)\b", re.IGNORECASE
)


def is_about_shapes(error: Exception) -> bool:
    """Whether an operation of torch failed because of the shape of what it was given."""
    plain = type(error) in (RuntimeError, ValueError, IndexError)  # torch.OutOfMemoryError is not
    return plain and bool(_SHAPES.search(str(error)))


def check_image_size(images: torch.Tensor, made_for: list[int]) -> None:
    """ValueError unless `images` [B, ...] are of the size [...] that the network was traced for."""
    if has_torch_function_unary(images):  # a proxy: the check becomes a node of the new graph
        handle_torch_function(check_image_size, (images,), images, made_for)
        return
    if list(images.shape[1:]) != list(made_for):
        raise ValueError(
            f"images of size {tuple(images.shape[1:])} were given to a network that was traced "
            f"for {tuple(made_for)} and whose control flow depends on the size; convert it "
            "again with example_inputs of the new size"
        )


has_side_effect(check_image_size)  # dead code elimination leaves it alone


def guard_image_size(gm: fx.GraphModule) -> int:
    """Put the check after the inputs of a graph that is good for one image size only."""
    shapes = known_shapes(gm)
    if not gm.meta.get("fixed_image_size") or not shapes:
        return 0
    inputs = [n for n in gm.graph.nodes if n.op == "placeholder"]
    for images, made_for in zip(inputs, shapes, strict=True):
        with gm.graph.inserting_after(inputs[-1]):
            gm.graph.call_function(check_image_size, (images, list(made_for)))
    gm.graph.lint()
    gm.recompile()
    return 1
