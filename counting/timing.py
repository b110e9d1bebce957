"""Where time is in a tensor: steps along its leading axis, repetitions of a constant."""

from torch import Tensor

from .aten import TAKES
from .provenance import Kind, Tag

JOINS = frozenset(("stack", "cat"))
TAKES_TIME = JOINS | TAKES.keys()  # may change how many steps there are


def _axis(args: tuple, position: int, dim: int) -> int:
    axis = args[position] if len(args) > position and isinstance(args[position], int) else 0
    return axis % dim


def _taken(name: str, args: tuple, x: Tensor, out: Tensor, held: int) -> int:
    """Steps that are left when a part of the time axis is taken."""
    if name not in TAKES:
        return held
    axis = _axis(args, TAKES[name], x.dim())
    time_axis = axis == 0 or (axis == 1 and x.dim() == 5)
    if not time_axis or held <= 1:
        return held
    if out.dim() < x.dim():  # one entry
        return 1 if x.shape[axis] == held else held
    part = held * out.shape[axis]
    return part // x.shape[axis] if part % x.shape[axis] == 0 else held


def steps_after(name: str, args: tuple, data: list[tuple[Tensor, Tag]], out: Tensor) -> int:
    """Time steps along the leading axis of a result that is not constant."""
    held = max(max(tag.steps, tag.copies if tag.kind is Kind.IMAGE else 0) for _, tag in data)
    if name in ("stack", "cat"):
        along_time = _axis(args, 1, out.dim()) == 0
        steps = [tag.steps for _, tag in data]
        if not along_time or len(data) == 1 or max(steps) > min(steps):
            return held
        return sum(steps) if name == "cat" else len(steps) * steps[0]
    return _taken(name, args, data[0][0], out, held)


def copies_of(
    name: str,
    args: tuple,
    data: list[tuple[Tensor, Tag]],
    out: Tensor,
    image_dims: int,
    steps: int | None,
) -> int:
    """How often a constant is repeated over time in an operation's result.

    Args:
        image_dims: axes of the images.
        steps: time steps of the run; None if not known, then any repetition of the batch counts.
    """
    x, tag = data[0]
    held = max(tag.copies for _, tag in data)
    if held > 1:
        return _taken(name, args, x, out, held)
    factors = _repetitions(name, args, data, out)
    allowed = (0, 1) if out.dim() == image_dims + 1 else (0,)
    for axis in allowed:
        factor = factors.get(axis, 1)
        if factor > 1 and factor in (steps or factor,):
            return factor
    return held


def _repetitions(name: str, args: tuple, data, out: Tensor) -> dict[int, int]:
    """Axis -> factor by which it repeats the same values."""
    x = data[0][0]
    if name == "repeat":
        return dict(enumerate(args[1]))
    if name == "expand":
        lead = out.dim() - x.dim()
        sizes = (1,) * lead + tuple(x.shape)
        return {axis: size for axis, size in enumerate(out.shape) if size != sizes[axis]}
    if name in ("stack", "cat") and len({id(y) for y, _ in data}) == 1:
        return {_axis(args, 1, out.dim()): len(data)}
    if name == "stack" and len({tag.key for _, tag in data}) == 1:
        return {_axis(args, 1, out.dim()): len(data)}
    return {}
