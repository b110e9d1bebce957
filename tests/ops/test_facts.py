"""Every fact of every row of the table, against PyTorch itself: a row with a wrong fact fails here."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_leaves

from spikeswap.ops import TABLE, UNKNOWN, Call, Channels, Kind, Mixes, Spikes, View, spelled
from spikeswap.ops.batch import same
from spikeswap.ops.call import MIXES

_spec = importlib.util.spec_from_file_location("cases", Path(__file__).with_name("cases.py"))
cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)

# What has no call to show here: modules (tests/ops/test_modules.py), numbers, random numbers.
WITHOUT = (Kind.SIZE, Kind.CREATE, Kind.REFUSED, Kind.SITE, Kind.MASK, Kind.TIMED, Kind.NORM)
ONLY_MODULES = {"identity", "drop_path", "channel_affine", "constant_pad", "half", "meshgrid"}
CALLS = [
    pytest.param(TABLE[name], one, id=f"{name}-{number}")
    for name, found in cases.CASES.items()
    for number, one in enumerate(found)
]


def run(row, one, values):
    args, kwargs, of = one
    function = of or cases.function_of(row.name)
    return function(*cases.filled(args, values), **cases.filled(kwargs, values))


def outputs(result) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]


def test_every_row_has_a_case():
    wanted = {name for name, row in TABLE.items() if row.kind not in WITHOUT} - ONLY_MODULES
    assert wanted == {name for name, found in cases.CASES.items() if found}


def operands_at(one, positions) -> list[str]:
    args, _, _ = one
    return [name for p in positions if p < len(args) for name in cases.letters(args[p])]


def superposed(row, one, group: list[str]) -> bool | None:
    """Whether a call is linear in these operands together; None where it gives no numbers."""
    here, other = cases.tensors(1), cases.tensors(2)

    def f(mixture):
        return outputs(run(row, one, {**here, **{n: mixture(here[n], other[n]) for n in group}}))

    mixed, first, second = f(lambda a, b: 2 * a - 3 * b), f(lambda a, b: a), f(lambda a, b: b)
    zero = f(lambda a, b: 0 * a) if row.kind is Kind.ADDITIVE else [0] * len(mixed)
    if not any(m.is_floating_point() for m in mixed):
        return None
    return all(
        torch.allclose(m - z, 2 * (a - z) - 3 * (b - z), rtol=1e-9, atol=1e-9)
        for m, a, b, z in zip(mixed, first, second, zero, strict=True)
        if m.is_floating_point()
    )


@pytest.mark.parametrize("name", [n for n, found in cases.CASES.items() if found])
def test_kind_by_superposition(name):
    """LINEAR and ADDITIVE in all values together, PRODUCT in each, others not in every call."""
    row, found = TABLE[name], []
    if row.kind is Kind.FUSED:
        return
    for one in cases.CASES[name]:
        values = list(dict.fromkeys(operands_at(one, row.values)))
        values = [v for v in values if cases.tensors()[v].is_floating_point()]
        groups = [[v] for v in values] if row.kind is Kind.PRODUCT else [values]
        found += [superposed(row, one, group) for group in groups if group]
    found = [answer for answer in found if answer is not None]
    if row.kind in (Kind.LINEAR, Kind.ADDITIVE, Kind.PRODUCT):
        assert all(found)
    else:
        assert not found or not all(found)


@pytest.mark.parametrize("row, one", CALLS)
def test_view_by_storage(row, one):
    values = cases.tensors()
    if not cases.letters(one[0]):
        return
    source = values[cases.letters(one[0])[0]].untyped_storage().data_ptr()
    shared = [o.untyped_storage().data_ptr() == source for o in outputs(run(row, one, values))]
    if row.view is View.ALWAYS:
        assert all(shared)
    if row.view is View.NEVER:
        assert not any(shared)


@pytest.mark.parametrize("row, one", CALLS)
def test_spikes_by_values(row, one):
    """SAME and PART: of {-s, 0, s} comes {-s, 0, s}; SAME keeps their number; BINARY gives 0 and 1."""
    values = cases.tensors()
    names = cases.letters(one[0])
    floats = [n for n in names if values[n].is_floating_point()]
    values |= {n: values[n].sign() * 0.7 * (values[n].abs() > 0.6) for n in floats}
    found = [o for o in outputs(run(row, one, values)) if o.is_floating_point()]
    if row.several and row.spikes is Spikes.PART:
        found = found[:1] if len(found) != len(outputs(run(row, one, values))) else found
    if row.keeps_spikes and row.name not in (
        "clamp",
        "clamp_min",
        "clamp_max",
        "hardtanh",
        "relu6",
    ):
        for o in found:
            assert bool(((o == 0) | (o.abs() == 0.7)).all())
    if row.keeps_spikes and row.name in ("clamp", "clamp_min", "clamp_max", "hardtanh", "relu6"):
        for o in found:  # one height on each side
            assert o[o > 0].unique().numel() <= 1 and o[o < 0].unique().numel() <= 1
    if row.spikes is Spikes.SAME:
        before = sum(int((values[n] != 0).sum()) for n in floats[:1])
        assert sum(int((o != 0).sum()) for o in found) == before
    if row.spikes is Spikes.BINARY:
        for o in outputs(run(row, one, values)):
            assert o.dtype == torch.bool or bool(((o == 0) | (o.abs() == 1)).all())


@pytest.mark.parametrize("row, one", [p for p in CALLS if p.values[0].in_order])
def test_order_by_reading_all_elements(row, one):
    values = cases.tensors()
    source = values[cases.letters(one[0])[0]]
    assert all(
        torch.equal(o.reshape(-1), source.reshape(-1)) for o in outputs(run(row, one, values))
    )


@pytest.mark.parametrize("row, one", [p for p in CALLS if p.values[0].takes is not None])
def test_what_takes_a_part_of_an_axis_leaves_the_others(row, one):
    args, _, _ = one
    if len(args) <= row.takes or not isinstance(args[row.takes], int):
        return
    values = cases.tensors()
    source = values[cases.letters(args)[0]]
    axis = args[row.takes] % source.dim() if row.name != "getitem" else 0
    others = [n for i, n in enumerate(source.shape) if i != axis]
    for o in outputs(run(row, one, values)):
        left = (
            [n for i, n in enumerate(o.shape) if i != axis] if o.dim() == source.dim() else o.shape
        )
        assert list(left) == others


def confined(changed: torch.Tensor, axis: int, size: int) -> bool:
    """Whether only the first image on this axis (or its block, where images are folded) changed."""
    if axis >= changed.dim() or changed.shape[axis] % size:
        return False
    block = changed.shape[axis] // size
    return not bool(changed.narrow(axis, block, changed.shape[axis] - block).any())


def predicted(row, one, axis: int, values) -> int | None:
    """The batch axis that the rule tells, None where it says that images mix."""
    args, kwargs, _ = one
    operands = [
        (axis if n in cases.BATCHED else None, values[n].dim()) for n in cases.letters(args)
    ]
    try:
        return row.batch(Call(cases.filled(args, values), kwargs, operands))
    except Mixes as error:
        return None if error.args[0] == MIXES else -1


@pytest.mark.parametrize("row, one", CALLS)
def test_batch_rule_by_changing_one_image(row, one):
    """The first image changes: only its part of the result does, on the axis that the rule tells."""
    values = cases.tensors()
    batched = [n for n in dict.fromkeys(cases.letters(one[0])) if n in cases.BATCHED]
    if not batched or row.kind is Kind.FUSED:
        return
    shape = values[batched[0]].shape
    for axis in range(min(values[n].dim() for n in batched)):
        size = shape[axis]
        if size < 2 or any(values[n].shape[axis] != size for n in batched):
            continue
        told = predicted(row, one, axis, values)
        if told == -1:  # the batch has to be first here: asked of the user, no statement
            continue

        others = [values[n] for n in cases.letters(one[0]) if n not in cases.BATCHED]
        if (
            len(batched) == 1
            and row.batch is same
            and any(o.dim() >= len(shape) - axis for o in others)
        ):
            continue  # a constant of the size of the batch
        try:
            runs = [run_changed(row, one, values, batched, how, axis) for how in (keep, new, roll)]
        except (RuntimeError, IndexError):
            continue  # of fixed sizes
        before, after, turned = runs
        if not any(bool(different(a, b).any()) for a, b in zip(after, before, strict=True)):
            continue  # a result that says nothing
        if told is None:
            axes = range(max(b.dim() for b in before))
            assert not any(apart(before, after, turned, place, size) for place in axes), axis
        else:
            assert apart(before, after, turned, told, size), (axis, told)


def run_changed(row, one, values, names, how, axis):
    return outputs(run(row, one, {**values, **{n: how(values[n], axis) for n in names}}))


def keep(x, axis):
    return x


def roll(x, axis):
    return x.roll(1, axis)


def apart(before, after, turned, axis: int, size: int) -> bool:
    """Whether every image has its own part of the result on this axis, and takes it along."""
    return all(
        confined(different(b, a), axis, size) and moves_with(t, b, axis, size)
        for a, b, t in zip(after, before, turned, strict=True)
    )


def different(a, b) -> torch.Tensor:
    return (a != b) & ~(a.isnan() & b.isnan())


def moves_with(turned, before, axis: int, size: int) -> bool:
    """Whether images in another order give results in that order."""
    block = before.shape[axis] // size
    return not bool(different(turned, before.roll(block, axis)).any())


def new(x, axis: int):
    """The first image on this axis is another one."""
    changed = x.clone()
    part = changed.narrow(axis, 0, 1)
    part.copy_(~part if part.dtype == torch.bool else part + 1 + part.abs())
    return changed


@pytest.mark.parametrize("row, one", CALLS)
def test_channels_by_changing_one(row, one):
    """KEPT: a changed channel on axis 1 leaves another one of the result as it was."""
    if row.channels is not Channels.KEPT or not one[0] or row.kind is Kind.FUSED:
        return
    values = cases.tensors()
    name = cases.letters(one[0])[0]
    if name not in cases.BATCHED or values[name].dim() < 3 or values[name].shape[1] < 4:
        return
    axes = [a for a in one[0][1:] if isinstance(a, int)] if row.kind is Kind.NONLINEAR else []
    if 1 in axes or one[1].get("dim") == 1:
        return  # along the channels
    before = outputs(run(row, one, values))
    after = outputs(run(row, one, {**values, name: new(values[name], 1)}))
    for a, b in zip(after, before, strict=True):
        changed = different(a, b).movedim(1, 0).flatten(1).any(1)
        assert not bool(changed.all())


@pytest.mark.parametrize("row, one", CALLS)
def test_costs_by_a_loop(row, one):
    """Reductions and pools cost one operation for each element that a result is made of."""
    if row.cost is None or row.cost.kind not in ("reduction", "pooling") or row.kind is Kind.FUSED:
        return
    values = {k: v.abs() + 0.1 if v.is_floating_point() else v for k, v in cases.tensors().items()}
    args = cases.filled(one[0], values)
    before = outputs(run(row, one, values))[0]
    if row.batch.__name__ == "same" or "adaptive" in row.name or len(cases.letters(one[0])) > 1:
        return
    told = row.cost.size(args, before)
    if row.cost.size.__name__ == "_input":
        assert told == args[0].numel()
        return
    name, reads = cases.letters(one[0])[0], 0
    for place in range(args[0].numel()):  # which results does an element reach?
        changed = args[0].clone()
        changed.view(-1)[place] += 1000.0
        reads += int((outputs(run(row, one, {**values, name: changed}))[0] != before).sum())
    assert told == reads


SPELLINGS = [
    (row.name, other)
    for row in TABLE.values()
    for other in row.spellings
    if cases.CASES.get(row.name)
]


@pytest.mark.parametrize("name, other", SPELLINGS)
def test_other_spellings_compute_the_same(name, other):
    if name in ("to", "long", "split", "mod", "trunc", "dropout", "interpolate", "softmax"):
        pytest.skip("spelled with arguments of its own")
    values = cases.tensors()
    for one in cases.CASES[name][:1]:
        canonical, function = one[2] or cases.function_of(name), cases.function_of(other)
        if function is None:
            continue
        args = cases.filled(one[0], values)
        for a, b in zip(outputs(function(*args)), outputs(canonical(*args)), strict=True):
            torch.testing.assert_close(a, b, equal_nan=True)


IN_PLACE = [
    name
    for name in cases.CASES
    if callable(getattr(torch.Tensor, f"{name}_", 0)) and TABLE[name].kind is not Kind.FUSED
]


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_forms_are_found_and_change_their_operand(name):
    spelling = spelled(f"{name}_")
    assert spelling.in_place and spelling.operation is TABLE[name]
    values = cases.tensors()
    args, kwargs, of = cases.CASES[name][0]
    target = values[cases.letters(args)[0]]
    expected = run(TABLE[name], (args, kwargs, of), values)
    if not isinstance(expected, torch.Tensor) or expected.dtype != target.dtype:
        return
    getattr(torch.Tensor, f"{name}_")(*cases.filled(args, values))
    torch.testing.assert_close(target, expected, equal_nan=True)


def test_what_is_not_in_the_table_is_unknown():
    for word in ("frobnicate", "add__", "__add__", "svd", "cholesky_"):
        assert spelled(word).operation is UNKNOWN


@pytest.mark.parametrize("row, one", [p for p in CALLS if p.values[0].inactive])
def test_what_is_inactive_gives_its_operand_back(row, one):
    values = cases.tensors()
    (out,) = outputs(run(row, one, values))
    assert torch.equal(out, values[cases.letters(one[0])[0]])
