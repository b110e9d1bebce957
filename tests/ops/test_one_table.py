"""Nothing outside the room of the table holds a set of operation names."""

import ast
from pathlib import Path

import pytest

from spikeswap.counting import CONTRACTIONS
from spikeswap.ops import ATEN, UNKNOWN, spelled

ROOT = Path(__file__).resolve().parents[2]
ROOMS = "calibrate convert counting evaluate graph models neurons report snn train".split()
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
# What counts a dispatched operation with synapses: a handler for each, tested below.
HANDLERS = {"counting/contractions.py"}


def names_in(node: ast.AST) -> list[str]:
    """Words of a literal list, set, tuple or dictionary, or of "a b c".split()."""
    if isinstance(node, (ast.List, ast.Set, ast.Tuple)):
        parts = node.elts
    elif isinstance(node, ast.Dict):
        parts = node.keys
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "split":
        text = getattr(node.func.value, "value", "")
        return text.split() if isinstance(text, str) else []
    else:
        return []
    return [p.value for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, str)]


def is_operation(word: str) -> bool:
    return spelled(word).operation is not UNKNOWN or word in ATEN


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_other_file_holds_a_set_of_operation_names(path):
    if path.relative_to(ROOT).as_posix() in HANDLERS:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        found = [word for word in names_in(node) if is_operation(word)]
        assert len(found) < 3, (
            f"line {node.lineno}: {found}; put it into ops/ as a fact of its rows"
        )


def test_every_dispatched_operation_with_synapses_has_a_handler():
    assert all(ATEN[name].synapses for name in CONTRACTIONS)
