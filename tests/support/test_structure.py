"""Outputs taken apart and put together again."""

import collections
import dataclasses

import pytest
import torch

from spikeswap.support.structure import Structure, inputs_of, structure_of, tensors_of

Pair = collections.namedtuple("Pair", "first second")


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    hidden: tuple | None = None
    made: int = dataclasses.field(default=0, init=False)


A, B, C = (torch.full((2,), float(i)) for i in range(3))
VALUES = {
    "tensor": A,
    "tuple": (A, B),
    "list": [A, [B, (C,)]],
    "dict": {"out": A, 3: [B], "none": None},
    "ordered": collections.OrderedDict(a=A, b=B),
    "named tuple": Pair(A, {"x": B}),
    "dataclass": Output(A, (B, C)),
    "dataclass with None": Output(A),
}


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if dataclasses.is_dataclass(one):
        one, other = vars(one), vars(other)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (tuple, list)):
        return all(same(x, y) for x, y in zip(one, other, strict=True))
    return one is other


@pytest.mark.parametrize("name", VALUES)
def test_what_was_taken_apart_is_put_together_again(name):
    structure, leaves = structure_of(VALUES[name])
    assert all(isinstance(leaf, torch.Tensor) for leaf in leaves)
    assert len(list(structure.names())) == len(leaves) == len(tensors_of(VALUES[name]))
    assert same(structure.fill(leaves), VALUES[name])


@pytest.mark.parametrize("name", VALUES)
def test_a_stored_structure_is_the_same_but_for_classes(name):
    structure, leaves = structure_of(VALUES[name])
    again = Structure.from_json(structure.as_json())
    assert list(again.names()) == list(structure.names())
    assert again.as_json() == structure.as_json()
    found = again.fill(leaves)
    if "dataclass" in name or "named" in name:
        assert type(found).__name__ == type(VALUES[name]).__name__
        assert found._fields == structure.keys and found[0] is leaves[0]
    elif name != "ordered":
        assert same(found, VALUES[name])


def test_every_tensor_has_a_name():
    value = {"out": A, "boxes": [B, Pair(A, C)], "x": Output(A, (B, None))}
    names = ["out", "boxes[0]", "boxes[1].first", "boxes[1].second", "x.logits", "x.hidden[0]"]
    assert list(structure_of(value)[0].names()) == names
    assert list(structure_of(A)[0].names()) == [""]


def test_inputs_are_one_tensor_or_several():
    assert inputs_of(A)[0] is A and len(inputs_of(A)) == 1
    assert len(inputs_of([A, B])) == 2
