"""One call of an operation as the rules of `batch.py` see it, and how a rule says no."""

import dataclasses
from collections.abc import Callable

MIXES = "mixes the images of a batch"
KEEP_OUT = "compute it for each image on its own (keep axis 0 out of it)"
BATCH_FIRST = "move the permute after the activation, so that the batch comes first there"
_NO_AXIS = 99  # a negative axis of a tensor of unknown rank: taken for none of the first ones


class Mixes(Exception):
    """(what is wrong, remedy)"""

    def __init__(self, what: str = MIXES, remedy: str = KEEP_OUT):
        super().__init__(what, remedy)


@dataclasses.dataclass
class Call:
    """One call, as far as it concerns the batch axis.

    Attributes:
        args, kwargs: of the call; tensors stand for themselves or for nodes of a graph.
        operands: (batch axis or None, number of axes or None) of every tensor, in their order.
        before: sizes of the axes before that of the batch; None if they are not known.
    """

    args: tuple
    kwargs: dict
    operands: list[tuple[int | None, int | None]]
    before: tuple[int, ...] | None = None

    @property
    def after_ones(self) -> bool:
        """Whether all axes before that of the batch are known to have one entry."""
        return self.before is not None and all(size == 1 for size in self.before)

    @property
    def batched(self) -> list[tuple[int, int | None]]:
        """The operands that have a batch axis."""
        return [operand for operand in self.operands if operand[0] is not None]

    @property
    def axis(self) -> int:
        """Batch axis of the first operand that has one."""
        return self.batched[0][0]

    @property
    def rank(self) -> int | None:
        """Number of its axes, None if it is not known."""
        return self.batched[0][1]

    @property
    def others(self) -> list[tuple[int, int | None]]:
        """The operands after it that have a batch axis, too."""
        return self.batched[1:]

    def argument(self, position: int, *names: str, default=None):
        """The argument at this position or under one of these names."""
        for name in names:
            if name in self.kwargs:
                return self.kwargs[name]
        return self.args[position] if len(self.args) > position else default

    def axes(self, position: int, *names: str) -> list[int] | None:
        """The axes that an argument names, counted from the front; None if it is not there."""
        value = self.argument(position, *names)
        value = [value] if is_number(value) else value
        if not isinstance(value, (list, tuple)):
            return None
        return [self.front(v) for v in value if is_number(v)]

    def front(self, axis: int, more: int = 0) -> int:
        """An axis counted from the front, in a tensor of `more` axes more than the operand."""
        if axis >= 0:
            return axis
        return _NO_AXIS if self.rank is None else axis + self.rank + more


Rule = Callable[[Call], int]


def is_number(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
