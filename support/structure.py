"""What holds the tensors that a network gives: tuple, list, dictionary, named tuple, dataclass."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator

from torch import Tensor

KINDS = ("tensor", "none", "tuple", "list", "dict", "fields")


@dataclasses.dataclass(frozen=True)
class Structure:
    """An output without its tensors.

    Attributes:
        kind: one of `KINDS`; "fields": a named tuple or a dataclass, such as a `ModelOutput`.
        keys: of a dictionary or of fields.
        parts: what it holds, in order.
        made_of: the class of a dictionary or of fields; None: fields are a named tuple of this name.
    """

    kind: str
    keys: tuple = ()
    parts: tuple["Structure", ...] = ()
    made_of: Callable | None = None
    name: str = ""

    def fill(self, tensors: Iterable):
        """The output that holds these tensors, in order."""
        tensors = iter(tensors)
        return self._fill(lambda: next(tensors))

    def _fill(self, take: Callable):
        if self.kind in ("tensor", "none"):
            return take() if self.kind == "tensor" else None
        values = [part._fill(take) for part in self.parts]
        if self.kind in ("tuple", "list"):
            return values if self.kind == "list" else tuple(values)
        pairs = dict(zip(self.keys, values, strict=True))
        if self.kind == "dict":
            return self.made_of(pairs)
        return (self.made_of or _named_tuple(self.name, self.keys))(**pairs)

    def names(self, before: str = "") -> Iterator[str]:
        """What each tensor is called: "logits", "boxes[0]"; a tensor alone has no name."""
        if self.kind == "tensor":
            yield before
        for number, part in enumerate(self.parts):
            inner = f"{before}.{self.keys[number]}" if self.keys else f"{before}[{number}]"
            yield from part.names(inner.lstrip("."))

    def as_json(self) -> dict:
        """Plain values; of the class of fields its name remains."""
        content: dict = {"kind": self.kind}
        if self.kind == "fields":
            content["name"] = self.made_of.__name__ if self.made_of else self.name
        if self.keys:
            content["keys"] = [k if type(k) in (int, str) else str(k) for k in self.keys]
        if self.parts:
            content["parts"] = [part.as_json() for part in self.parts]
        return content

    @classmethod
    def from_json(cls, content: dict) -> "Structure":
        """What `as_json` gave; fields become a named tuple of that name, so `out.logits` still works."""
        keys = tuple(content.get("keys", ()))
        made_of = dict if content["kind"] == "dict" else None
        parts = tuple(cls.from_json(part) for part in content.get("parts", ()))
        return cls(content["kind"], keys, parts, made_of, content.get("name", ""))


@functools.cache
def _named_tuple(name: str, keys: tuple[str, ...]) -> type:
    return collections.namedtuple(name, keys)


TENSOR = Structure("tensor")


def structure_of(value, is_leaf: Callable = lambda value: False) -> tuple[Structure, list]:
    """(structure, leaves in order) of an output; whatever is no container, and not None, is a leaf.

    Args:
        is_leaf: values that are not looked into.
    """
    if is_leaf(value):
        return TENSOR, [value]
    if value is None:
        return Structure("none"), []
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        keys = tuple(f.name for f in dataclasses.fields(value) if f.init)
        kind, made_of, values = "fields", type(value), [getattr(value, key) for key in keys]
    elif hasattr(value, "_fields") and isinstance(value, tuple):
        kind, made_of, keys, values = "fields", type(value), value._fields, value
    elif isinstance(value, dict):
        ordered = isinstance(value, collections.OrderedDict)
        kind, made_of = "dict", collections.OrderedDict if ordered else dict
        keys, values = tuple(value), value.values()
    elif isinstance(value, (tuple, list)):
        kind, made_of, keys = "list" if isinstance(value, list) else "tuple", None, ()
        values = value
    else:
        return TENSOR, [value]
    found = [structure_of(part, is_leaf) for part in values]
    parts = tuple(structure for structure, _ in found)
    return Structure(kind, keys, parts, made_of), [leaf for _, leaves in found for leaf in leaves]


def tensors_of(value) -> list[Tensor]:
    """The tensors that an output holds, in order."""
    return [leaf for leaf in structure_of(value)[1] if isinstance(leaf, Tensor)]


def inputs_of(batch) -> tuple[Tensor, ...]:
    """The inputs of a network, each [B, ...]: a tensor alone is one, a tuple or list are several."""
    return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
