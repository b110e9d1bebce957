"""How rows of the table are written: short names of the facts, costs, and one call for many rows."""

import math

from torch import Tensor

from .facts import Channels, Cost, Kind, Operation, Sign, Spikes, View

SMOOTH_REMEDY = (
    'convert it with sites="all" (neuron "multi" or "stbif"), or train it with ReLU (or put QCFS after '
    "it) and convert that"
)
RANDOM_REMEDY = "it is random in eval mode: make the network a pure function of the image"
UNKNOWN_REMEDY = "mark its module as a leaf (leaf_modules=...): it then runs on running values"

LINEAR, ADDITIVE, PRODUCT, NONLINEAR = Kind.LINEAR, Kind.ADDITIVE, Kind.PRODUCT, Kind.NONLINEAR
ACTIVATION, SMOOTH, CREATE, SIZE, REFUSED = (
    Kind.ACTIVATION,
    Kind.SMOOTH,
    Kind.CREATE,
    Kind.SIZE,
    Kind.REFUSED,
)
ALWAYS, PERHAPS = View.ALWAYS, View.PERHAPS
SAME, PART, SCALED, BINARY, UNSURE, NOTHING = (
    Spikes.SAME,
    Spikes.PART,
    Spikes.SCALED,
    Spikes.BINARY,
    Spikes.UNSURE,
    Spikes.NOTHING,
)
KEPT, FIRST, LAST = Channels.KEPT, Channels.FIRST, Channels.LAST
NONNEGATIVE, POSITIVE = Sign.KEPT, Sign.POSITIVE


def _output(args, out: Tensor) -> int:
    """One operation for each element of the result."""
    return out.numel()


def _input(args, out: Tensor) -> int:
    """One operation for each element that is read."""
    return args[0].numel()


def _window(args, out: Tensor) -> int:
    """Elements of the result times the elements of the window."""
    kernel, dims = args[1], out.dim() - 2 if out.dim() > 2 else 1
    size = [kernel] * dims if isinstance(kernel, int) else list(kernel)
    return out.numel() * math.prod(size * dims if len(size) == 1 else size)


COSTS = {
    "normalisation": _output,
    "softmax": _output,
    "pooling": _input,
    "activation": _output,
    "elementwise": _output,
    "comparison": _output,
    "reduction": _input,
    "resampling": _output,
}
WINDOWS = Cost("pooling", _window)


def rows(kind: Kind, names: str, cost: str | Cost | None = None, **facts) -> list[Operation]:
    """One row for each `name=spelling,spelling@aten,aten`."""
    found = []
    for word in names.split():
        word, _, aten = word.partition("@")
        name, _, others = word.partition("=")
        found.append(
            Operation(
                name,
                kind,
                tuple(others.split(",")) if others else (),
                cost=Cost(cost, COSTS[cost]) if isinstance(cost, str) else cost,
                aten=tuple(aten.split(",")) if aten else (),
                **facts,
            )
        )
    return found


def view(names: str, rule, view=ALWAYS, spikes=SAME, **facts) -> list[Operation]:
    return rows(LINEAR, names, view=view, spikes=spikes, sign=NONNEGATIVE, batch=rule, **facts)


def pointwise(names: str, spikes=Spikes.ANALOG, cost="elementwise", **facts) -> list[Operation]:
    return rows(NONLINEAR, names, cost, spikes=spikes, channels=KEPT, **facts)
