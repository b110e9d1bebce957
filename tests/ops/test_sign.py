"""The signs of results, against PyTorch itself, and what follows from them in a graph."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from spikeswap.graph import normal_form
from spikeswap.graph.planned_sites import nonnegative_nodes
from spikeswap.ops import TABLE, Kind, Sign

_spec = importlib.util.spec_from_file_location("cases", Path(__file__).with_name("cases.py"))
cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)

CALLS = [
    pytest.param(TABLE[name], one, id=f"{name}-{number}")
    for name, found in cases.CASES.items()
    for number, one in enumerate(found)
    if TABLE[name].sign is not Sign.ANY
]


def numbers(row, one) -> list[float]:
    """Python numbers of a call that are values (axes and sizes are not)."""
    args, kwargs, _ = one
    everything = row.kind in (Kind.PRODUCT, Kind.ADDITIVE)
    positions = range(len(args)) if everything else {*row.values, *(row.writes or ())[:1]}
    given = [args[p] for p in positions if p < len(args)]
    given += list(kwargs.values()) if everything or row.writes else []
    return [value for value in given if isinstance(value, (int, float))]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("row, one", CALLS)
def test_sign_by_values(row, one, seed):
    """POSITIVE whatever the operands are; KEPT where none of them is negative."""
    values = cases.tensors(seed)
    if row.sign is Sign.KEPT:
        if any(number < 0 for number in numbers(row, one)):
            return
        values = {k: v.abs() if v.is_floating_point() else v for k, v in values.items()}
    args, kwargs, of = one
    function = of or cases.function_of(row.name)
    found = function(*cases.filled(args, values), **cases.filled(kwargs, values))
    for leaf in tree_leaves(found):
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
            assert not bool((leaf < 0).any())


class Numbers(nn.Module):
    """One call on values that cannot be negative, with a number that may make them so."""

    def __init__(self, act):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 4, 3), act

    def forward(self, x):
        return self.act(self.conv(x).relu())


@pytest.mark.parametrize(
    "act, kept",
    [
        (lambda x: x * 2.0, True),
        (lambda x: x * -2.0, False),
        (lambda x: x / -3, False),
        (lambda x: x + 1, True),
        (lambda x: x + -1, False),
        (lambda x: torch.add(x, x, alpha=-1), False),
        (lambda x: 1 - x, False),
        (lambda x: nn.functional.pad(x, (1, 1), value=-1.0), False),
        (lambda x: nn.functional.pad(x, (1, 1), value=1.0), True),
        (lambda x: nn.functional.pad(x, (-1, -1)), True),
        (lambda x: x.mean((-2, -1)), True),
        (lambda x: x.transpose(-2, -1) @ x, True),
        (lambda x: x.sub(x.mean()).softmax(-1), True),
        (lambda x: x.flatten(1).unflatten(1, (4, -1)), True),
    ],
)
def test_numbers_decide_the_sign_too(act, kept):
    graph = normal_form(Numbers(act), example_inputs=torch.randn(2, 3, 8, 8))
    last = next(n for n in graph.graph.nodes if n.op == "output").args[0]
    assert (last in nonnegative_nodes(graph)) is kept
