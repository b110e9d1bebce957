"""What a node of the graph gives: a sum of layers that leave, with factors and an offset."""

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Term:
    """A layer times a factor: [] or, along the first axis of its shape, [C]."""

    layer: str
    factor: Tensor


@dataclasses.dataclass(frozen=True)
class Value:
    """A sum of terms and an offset, [] or [C], of this shape (without batch)."""

    terms: tuple[Term, ...]
    offset: Tensor
    shape: tuple[int, ...]

    def plus(self, other: "Value") -> "Value":
        """The sum; a layer that stands in both is one term."""
        factors = {term.layer: term.factor for term in self.terms}
        for term in other.terms:
            factors[term.layer] = factors.get(term.layer, 0) + term.factor
        terms = tuple(Term(layer, factor) for layer, factor in factors.items())
        return Value(terms, self.offset + other.offset, self.shape)

    def scaled(self, factor: Tensor) -> "Value":
        terms = tuple(Term(t.layer, t.factor * factor) for t in self.terms)
        return Value(terms, self.offset * factor, self.shape)


def by_factor(x: Value) -> list[tuple[Tensor, list[str]]]:
    """The terms of a value, those of one factor together."""
    found: list[tuple[Tensor, list[str]]] = []
    for term in x.terms:
        full = term.factor.expand(x.shape[0])
        for factor, names in found:
            if term.layer not in names and torch.equal(factor.expand(x.shape[0]), full):
                names.append(term.layer)
                break
        else:
            found.append((term.factor, [term.layer]))
    return found


def per_channel(value, shape: tuple[int, ...]) -> Tensor | None:
    """A number or parameter that broadcasts against [B, *shape], per channel; None if it is not."""
    if isinstance(value, (int, float)):
        return torch.tensor(float(value), dtype=torch.float64)
    if not isinstance(value, Tensor):
        return None
    value = value.detach().cpu().double()
    if value.numel() == 1:
        return value.reshape(())
    full = value.view(*[1] * (len(shape) + 1 - value.dim()), *value.shape)
    if full.numel() == shape[0] and full.shape[1] == shape[0]:
        return full.flatten()
    return None
