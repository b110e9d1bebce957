"""tools/export.py on a run of a few steps: grade, files, and one line for what cannot be."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*words, cwd):
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two small epochs, converted without and with masks."""
    folder = tmp_path_factory.mktemp("runs")
    small = ["MODEL.OVERRIDES.stages", "[[4], [6]]", "MODEL.OVERRIDES.hidden", "8"]
    made = run(ROOT / "tools/train_qcfs.py", "--cfg", "vgg_speck.yaml", "--epochs", 1,
               "--img-size", 16, "--set", *small, "--output", folder, cwd=folder)  # fmt: skip
    assert made.returncode == 0, made.stderr
    path = next(p.parent for p in folder.glob("*/config.yaml") if p.parent.name != "latest")
    for more in ([], ["--mask", "0.5"], ["--neuron", "multi", "--calibrate", "none"]):
        made = run(ROOT / "tools/convert.py", "--run", path, "--T", 8, "--no-check", *more, cwd=folder)
        assert made.returncode == 0, made.stderr
    return path


def tag(trained, word):
    return next(p.name for p in (trained / "snn").iterdir() if word in p.name)


def test_a_run_leaves_with_a_grade(trained):
    words = ["--run", trained, "--tag", tag(trained, "mask0-"), "--images", 30]
    done = run(ROOT / "tools/export.py", *words, cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "grade: faithful" in done.stdout and "Speck 2e: fits on" in done.stdout
    record = json.loads((trained / "export/nir/export.json").read_text())
    assert record["images"] == 30 and record["timesteps"] == 8 and record["top1"] is not None
    again = run(ROOT / "tools/export.py", *words, cwd=trained)
    assert again.returncode == 2 and "exists; name another folder (--output)" in again.stderr
    elsewhere = run("-m", "spikeswap", "export", *words, "--bits", 8, "--output", "out", cwd=trained)
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert json.loads((trained / "out/export.json").read_text())["bits"] == 8


@pytest.mark.parametrize(("flags", "last"), [
    (["--to", "loihi"], "invalid choice: 'loihi'"),
    (["--bits", "4"], "invalid choice: 4"),
    (["--T", "0"], "T, the number of time steps"),
    (["--run", "nowhere"], "nowhere"),
    (["--tag", "nothing"], "nothing"),
])  # fmt: skip
def test_bad_input(trained, flags, last):
    given = flags if "--run" in flags else ["--run", trained, *flags]
    done = run(ROOT / "tools/export.py", *given, cwd=trained)
    assert done.returncode == 2 and last in done.stderr.strip().splitlines()[-1], done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("word", "remedy"), [("mask0.5", "--mask 0"), ("multi", "--neuron if")])
def test_what_has_no_form_is_listed_and_nothing_is_written(trained, word, remedy):
    words = ["--run", trained, "--tag", tag(trained, word), "--output", "refused"]
    done = run(ROOT / "tools/export.py", *words, cwd=trained)
    assert done.returncode == 2 and remedy in done.stderr
    assert "no form outside" in done.stderr.strip().splitlines()[-1]
    assert not (trained / "refused").exists()
