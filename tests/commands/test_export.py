"""tools/export.py on a run of a few steps: grade, files, and one line for what cannot be."""

import json

import pytest


@pytest.fixture(scope="module")
def trained(tool, tmp_path_factory):
    """A run of one small epoch, converted without and with masks."""
    folder = tmp_path_factory.mktemp("runs")
    small = ["MODEL.OVERRIDES.stages", "[[4], [6]]", "MODEL.OVERRIDES.hidden", "8"]
    made = tool("train_qcfs.py", "--cfg", "vgg_speck.yaml", "--epochs", 1,
               "--img-size", 16, "--set", *small, "--output", folder, cwd=folder)  # fmt: skip
    made.worked()
    path = next(p.parent for p in folder.glob("*/config.yaml") if p.parent.name != "latest")
    for more in ([], ["--mask", "0.5"], ["--neuron", "multi", "--calibrate", "none"]):
        tool("convert.py", "--run", path, "--T", 8, "--no-check", *more, cwd=folder).worked()
    return path


def tag(trained, word):
    return next(p.name for p in (trained / "snn").iterdir() if word in p.name)


def test_a_run_leaves_with_a_grade(tool, trained):
    words = ["export.py", "--run", trained, "--tag", tag(trained, "mask0-"), "--images", 30]
    out = tool(*words, cwd=trained).worked()
    assert "grade: faithful" in out and "Speck 2e: fits on" in out
    record = json.loads((trained / "export/nir/export.json").read_text())
    assert record["images"] == 30 and record["timesteps"] == 8 and record["top1"] is not None
    tool(*words, cwd=trained).refused("exists; name another folder (--output)")
    tool(*words, "--bits", 8, "--output", "out", cwd=trained).worked()
    assert json.loads((trained / "out/export.json").read_text())["bits"] == 8


@pytest.mark.parametrize(("flags", "last"), [
    (["--to", "loihi"], "invalid choice: 'loihi'"),
    (["--bits", "4"], "invalid choice: 4"),
    (["--T", "0"], "T, the number of time steps"),
    (["--run", "nowhere"], "nowhere"),
    (["--tag", "nothing"], "nothing"),
])  # fmt: skip
def test_bad_input(tool, trained, flags, last):
    given = flags if "--run" in flags else ["--run", trained, *flags]
    tool("export.py", *given, cwd=trained).refused(last)


@pytest.mark.parametrize(("word", "remedy"), [("mask0.5", "--mask 0"), ("multi", "--neuron if")])
def test_what_has_no_form_is_listed_and_nothing_is_written(tool, trained, word, remedy):
    words = ["--run", trained, "--tag", tag(trained, word), "--output", "refused"]
    done = tool("export.py", *words, cwd=trained)
    done.refused("no form outside")
    assert remedy in done.err and not (trained / "refused").exists()
