"""Near names, short messages, whole numbers, versions: one copy each."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import spikeswap
from spikeswap.neurons import QCFS
from spikeswap.support.messages import near_names, reason, shown
from spikeswap.support.versions import versions
from spikeswap.support.whole_numbers import whole_number

ROOT = Path(spikeswap.__file__).resolve().parent


def test_near_names_or_all_that_are_known():
    assert near_names("swin_t", ["swin_t_bn", "vgg16"]) == "did you mean swin_t_bn?"
    assert near_names(3, ["swin_t_bn", "vgg16"]) == "known: swin_t_bn, vgg16"
    assert near_names("x", map(str, range(1000, 9000))).endswith("1039 ...")


@pytest.mark.parametrize("value", ["x" * 10**6, [[0] * 10**5] * 9, {1: "y" * 10**6}, "line\n" * 99])
def test_what_a_message_shows_is_short_and_on_one_line(value):
    assert len(shown(value)) <= 80 and "\n" not in shown(value)
    assert len(reason(ValueError(value))) <= 150 and "\n" not in reason(ValueError(value))
    assert reason(KeyError()) == "KeyError"


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_whole_numbers_of_every_library_are_taken(value):
    found = whole_number("T", value, 1, 3)
    assert found == 3 and type(found) is int


@pytest.mark.parametrize("value", [True, np.True_, 3.0, np.float64(3), "3", None, [3], 0, 4])
def test_nothing_else_is(value):
    with pytest.raises(ValueError, match="T .* must be a whole number of at least 1 and at most 3"):
        whole_number("T", value, 1, 3)
    assert whole_number("seed", -7, least=None) == -7


def test_levels_may_be_a_numpy_integer_and_have_a_bound():
    assert type(QCFS(np.int32(8)).levels) is int
    for levels in (np.float32(8), 10**12, np.int64(0)):
        with pytest.raises(ValueError, match="levels"):
            QCFS(levels)


def test_versions_name_all_that_a_result_depends_on():
    assert versions()["torch"] == str(torch.__version__)
    assert set(versions()) == {"spikeswap", "torch", "python"}


@pytest.mark.parametrize(
    "words, home",
    [
        (r"difflib", "support/messages.py"),
        (r"os\.replace|mkstemp", "support/atomic.py train/runs.py"),
        (r"platform\.python_version", "support/versions.py"),
        (
            r"(?<!`)torch\.load\(|torch\.jit\.load|import pickle\b|zipfile",
            "support/weight_files.py data/folders.py",
        ),
        (r"yaml\.(safe_)?load", "configs/files.py"),
        (r"Image\.open\((?!path, formats=FORMATS\))", ""),
    ],
)
def test_what_the_library_needs_once_stands_once(words, home):
    folders = [
        path for path in ROOT.iterdir() if path.is_dir() and (path / "__init__.py").is_file()
    ]
    files = [file for folder in [*folders, ROOT / "tools"] for file in folder.rglob("*.py")]
    found = {
        f.relative_to(ROOT).as_posix() for f in files if re.search(words, f.read_text("utf-8"))
    }
    assert found <= set(home.split())
