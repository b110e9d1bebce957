"""The network's own quantised twin, read off the spikes: which activations are not zero.

Yan et al., "Reconsidering the energy efficiency of spiking neural networks" (arXiv 2409.08290):
T steps of a spiking layer carry what one value of ceil(log2(T+1)) bits carries. The twin runs once;
an activation costs something where its neuron has sent anything within the run.
"""

import dataclasses

import torch
from torch import Tensor

from .contractions import Contraction, Operand, pairs
from .ledger import Ledger
from .nonzero import count_nonzero, sum_over_steps
from .provenance import Kind, Tag

_CANCELLED = 1e-4  # of the largest sum: what rounding leaves of spikes that cancel


@dataclasses.dataclass
class _Held:
    """Sums over time of one operation's inputs [of one step], until the forward pass ends.

    Attributes:
        left, right: None on the side of a weight.
        reach: outputs that an element of the data side feeds (no product).
        shape: (m, k, n) of a matrix product.
    """

    left: Tensor | None
    right: Tensor | None
    reach: int | Tensor
    shape: tuple[int, ...]


class Twin:
    """Collects inputs over time and counts nonzero activations times their fan-out.

    Args:
        how: "activations" or "rates" (see `OperationCounter`).
    """

    def __init__(self, how: str):
        assert how in ("activations", "rates"), how
        self.how = how
        self.held: dict[tuple, _Held] = {}
        self.calls: dict[tuple, int] = {}
        self.unknown = ""

    def add(self, key: tuple, row, c: Contraction, tags: list[Tag | None]) -> None:
        """One call of an operation; calls with several steps are different places."""
        if self.how == "activations":
            row.activations += _nonzero_reach(c, c.left.tensor, c.right.tensor, tags)
            return
        data = [tag for tag in tags if tag is None or tag.kind is not Kind.WEIGHT]
        steps = max((_steps(tag) for tag in data), default=0)
        if steps == 0:
            self.unknown = (
                f"the time axis at {row.name} is not known, so what fired over the "
                "run cannot be told"
            )
            return
        if steps > 1:
            self.calls[key] = self.calls.get(key, 0) + 1
            key = (*key, "call", self.calls[key])
        left, right = (
            _sum(side.tensor, tag, steps) for side, tag in zip((c.left, c.right), tags, strict=True)
        )
        held = self.held.get(key)
        if held is None:
            reach = (c.left if right is None else c.right).reach
            shape = (*c.left.tensor.shape[-2:], c.right.tensor.shape[-1])
            self.held[key] = _Held(left, right, reach, shape)
            return
        for old, new in ((held.left, left), (held.right, right)):
            if old is not None and new is not None and old.shape == new.shape:
                old += new

    def close(self, ledger: Ledger) -> None:
        """End of a forward pass."""
        for key, held in self.held.items():
            row_key = key[: key.index("call")] if "call" in key else key
            left, right = _active(held.left), _active(held.right)
            ledger.rows[row_key].activations += _reach_of(held, left, right)
        ledger.twin_unknown = ledger.twin_unknown or self.unknown
        self.held, self.calls = {}, {}


def _sum(x: Tensor, tag: Tag | None, steps: int) -> Tensor | None:
    if tag is not None and tag.kind is Kind.WEIGHT:
        return None
    signed = tag is None or tag.kind is not Kind.SPIKES
    return sum_over_steps(x, steps if x.numel() % steps == 0 else 1, signed)


def _steps(tag: Tag | None) -> int:
    if tag is None:
        return 0
    return tag.copies if tag.kind is Kind.IMAGE else tag.steps


def _active(x: Tensor | None) -> Tensor | None:
    """Which sums stand for a nonzero activation: 0.0 or 1.0."""
    if x is None or x.numel() == 0:
        return x
    floor = float(x.abs().amax()) * _CANCELLED
    return ((x.abs() >= floor) & (x != 0)).to(torch.float32)


def _reach_of(held: _Held, left: Tensor | None, right: Tensor | None) -> int:
    if left is not None and right is not None:
        m, k, n = held.shape
        return pairs(left.view(-1, m, k), right.view(-1, k, n))
    active = right if left is None else left
    return Operand(active, held.reach, 0).events(None)


def _nonzero_reach(c: Contraction, left: Tensor, right: Tensor, tags: list[Tag | None]) -> int:
    """Nonzero inputs times what they reach, of one call."""
    if c.kind == "gate":
        return count_nonzero((left != 0) & (right != 0))
    weight = [tag is not None and tag.kind is Kind.WEIGHT for tag in tags]
    if c.kind == "conv" or weight[1]:
        return c.left.events(None)
    if weight[0]:
        return c.right.reach * count_nonzero(right)
    return pairs(left, right)
