"""tools/frontier.py: what it tries, what it writes, and that its advice can be followed."""

import json
import shutil

import pytest

from spikeswap.commands.frontier_file import read_frontier, write_frontier


@pytest.fixture(scope="module")
def searched(tool, trained, tmp_path_factory):
    """A folder with runs/tiny_fake whose frontier was searched, and what the command said."""
    folder = tmp_path_factory.mktemp("frontier")
    shutil.copytree(trained / "runs", folder / "runs", symlinks=True)
    words = ["--neurons", "multi,if", "--timesteps", "2,4", "--limit", 20, "--within", 99]
    return folder, tool("frontier.py", *words, cwd=folder).worked()


def test_every_setting_is_in_the_file(searched):
    folder, _ = searched
    found = json.loads((folder / "runs/tiny_fake/frontier.json").read_text())
    tried = {(r["neuron"], r["mask"], r["calibrate"], r["readout"], r["timesteps"])
             for r in found["tried"]}  # fmt: skip
    masks, steps = (0.5, 0.0), (2, 4)
    assert tried == {("multi", m, "none", "mean", t) for m in masks for t in steps} | {
        ("if", m, c, r, t)
        for m in masks
        for c in ("none", "thresholds", "bias")
        for r in ("mean", "second-half")
        for t in steps
    }
    assert found["part"] == "train" and found["images"] == 20 and found["left_out"] == 0
    for row in found["tried"]:
        assert row["loss"] == pytest.approx(found["ann_top1"] - row["top1"])
        assert row["energy_millijoules"] > 0 and row["seconds_per_image"] > 0


def test_more_steps_of_one_setting_cost_more(searched):
    folder, _ = searched
    rows = json.loads((folder / "runs/tiny_fake/frontier.json").read_text())["tried"]
    spent = {(r["neuron"], r["mask"], r["calibrate"], r["readout"], r["timesteps"]):
             r["energy_millijoules"] for r in rows}  # fmt: skip
    pairs = [(spent[(*key, 2)], spent[(*key, 4)]) for *key, t in spent if t == 2]
    assert all(few < many for few, many in pairs) and len(pairs) == 14


def test_the_advice_is_a_command_that_works_and_the_report_shows_it(searched, tool):
    folder, said = searched
    found = json.loads((folder / "runs/tiny_fake/frontier.json").read_text())
    assert found["advice"] in said and f"next: {found['command']}" in said
    assert "training images are used" in said
    words = found["command"].split()[2:]
    tool("convert.py", *words, "--no-check", cwd=folder).worked()
    # the same conversion on the same images: what the search said of it is what eval says
    tool("eval.py", "--split", "train", "--limit", 20, "--figures", "svg", cwd=folder).worked()
    ann, snn = json.loads((folder / "runs/tiny_fake/eval.json").read_text())["models"]
    row = next(r for r in found["tried"] if r["command"] == found["command"])
    assert found["ann_top1"] == ann["top1"]
    for key in ("top1", "agreement_with_ann", "energy_millijoules", "synaptic_operations"):
        assert snn[key] == row[key], key
    assert {p.suffix for p in (folder / "runs/tiny_fake/figures").iterdir()} == {".svg"}
    page = (folder / "runs/tiny_fake/report.html").read_text()
    assert "The cheapest of 28 settings" in page and "What accuracy costs" in page
    for ending in ("png", "pdf", "svg"):
        assert (folder / f"runs/tiny_fake/frontier.{ending}").stat().st_size > 1000


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"schema": 2}', '{"schema": 1, "tried": [{}]}',
     '{"schema": 1, "tried": [], "advice": 3, "part": "a", "ann_top1": 1, "images": 1}'],
)  # fmt: skip
def test_a_damaged_file_is_refused_by_name(content, tmp_path):
    assert read_frontier(tmp_path) is None
    (tmp_path / "frontier.json").write_text(content)
    with pytest.raises(ValueError, match=r"frontier\.json.*run tools/frontier\.py again"):
        read_frontier(tmp_path)


def test_a_damaged_file_costs_the_report_its_frontier_alone(searched, tool, tmp_path):
    folder, _ = searched
    shutil.copytree(folder / "runs", tmp_path / "runs", symlinks=True)
    write_frontier({"tried": [{}]}, tmp_path / "runs/tiny_fake")
    tool("convert.py", "--T", 2, "--no-check", cwd=tmp_path).worked()
    said = tool("eval.py", "--limit", 4, "--figures", "none", cwd=tmp_path).worked()
    assert "the report goes without its frontier: " in said and "is damaged" in said
    assert "What accuracy costs" not in (tmp_path / "runs/tiny_fake/report.html").read_text()


def test_what_is_given_is_in_the_advice(searched, tool, trained, tmp_path):
    shutil.copytree(trained / "runs", tmp_path / "runs", symlinks=True)
    words = ["--neurons", "multi", "--timesteps", 2, "--limit", 4, "--seed", 7, "--data", "fake"]
    tool("frontier.py", *words, "--within", 99, cwd=tmp_path).worked()
    found = json.loads((tmp_path / "runs/tiny_fake/frontier.json").read_text())
    assert found["command"].endswith("--data fake --seed 7")


def test_a_part_set_apart_is_what_it_looks_at(tool, trained, tmp_path):
    words = ["--cfg", trained / "tiny.yaml", "--epochs", 1, "--val-fraction", 0.25]
    tool("train_qcfs.py", *words, cwd=tmp_path).worked()
    words = ["--neurons", "multi", "--timesteps", "2", "--limit", 5]
    said = tool("frontier.py", *words, cwd=tmp_path).worked()
    assert "5 images of the select part" in said and "training images are used" not in said


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--neurons", "lif"], "neuron 'lif' is unknown; known: if, stbif, multi"),
        (["--within", "-1"], "a loss of accuracy in points"),
        (["--timesteps", "0"], "number of time steps"),
        (["--limit", "0"], "a number of images"),
        (["--run", "nowhere"], "nowhere"),
        (["--data", "mnist5"], "mnist5k"),
    ],
)
def test_bad_input(searched, tool, flags, word):
    tool("frontier.py", *flags, cwd=searched[0]).refused(word)
