"""A registered neuron, readout and energy model go wherever the built-in ones go."""

import json
import shutil
from pathlib import Path

import pytest

import spikeswap
from spikeswap.neurons import NEURONS

COMMAND = """
import sys
import toy_plugins
from spikeswap.commands.main import run
run(sys.argv.pop(1))
"""
LIBRARY = """
import math
import torch
import toy_plugins
import spikeswap
from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.evaluate import evaluate, write_eval_json
from spikeswap.report import write_report

torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 6)
).eval()
ann = insert_qcfs(model, levels=8, threshold=1.0)
snn = convert_model(ann, neuron="late-if", readout="last-quarter")
images = torch.rand(6, 1, 8, 8)
readout = snn(images, timesteps=8)

step_mean = snn(images, timesteps=8, readout="mean")
torch.testing.assert_close(readout[7], 4 * step_mean[7] - 3 * step_mean[5])
plain = convert_model(ann)
assert snn(images, timesteps=1, readout="mean").norm() < plain(images, timesteps=1).norm()

snn.save("saved")
found = spikeswap.load("saved")
assert type(found.sites["1"].neuron) is toy_plugins.LateIF and found.info == snn.info
assert torch.equal(found(images, timesteps=8), readout)
print(snn.report)

record = evaluate(found, [(images, torch.arange(6))], 8, energy="toy", ann=ann)
assert (record["neuron"], record["readout"]) == ("late-if", "last-quarter")
assert record["energy_model"] == "toy" and record["spike_values"] == [0, 1]
assert math.isclose(record["energy_millijoules"], (2 * record["macs"] + record["acs"]) / 1e9)
about = {"data": "noise", "split": "val", "images": 6}
write_eval_json([record], ".", **about)
write_report([record], ".", **about)
"""


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """A folder with a run, with the toys and with a door of three lines that registers them."""
    shutil.copytree(trained / "runs", tmp_path / "runs", symlinks=True)
    shutil.copy(Path(__file__).with_name("toy_plugins.py"), tmp_path)
    (tmp_path / "mine.py").write_text(COMMAND)
    return tmp_path


def shown_in(folder: Path) -> None:
    """The report and the numbers name all three."""
    record = json.loads((folder / "eval.json").read_text())["models"][-1]
    assert (record["neuron"], record["readout"]) == ("late-if", "last-quarter")
    assert record["energy_model"] == "toy" and record["energies"]["toy"]["source"] == "made up"
    page = (folder / "report.html").read_text()
    for words in ("late-if", "mean of the last quarter of the steps", "toy", "made up"):
        assert words in page, words


def test_the_library_takes_them(folder, tool):
    (folder / "library.py").write_text(LIBRARY)
    said = tool(folder / "library.py", cwd=folder).worked()
    assert "'late-if' neurons" in said and "tends to the network with clipped ReLU" in said
    shown_in(folder)
    assert "late-if" not in NEURONS  # this process knows nothing of them
    with pytest.raises(ValueError, match="neuron 'late-if' is unknown; known: if, stbif, multi"):
        spikeswap.load(folder / "saved")


def test_the_commands_take_them(folder, tool):
    door = folder / "mine.py"
    words = ("--neuron", "late-if", "--readout", "last-quarter", "--T", "4")
    tool(door, "convert", *words, cwd=folder).worked()
    assert (folder / "runs/tiny_fake/snn/late-if-accumulated-T4-mask0.5").is_dir()
    tool(door, "eval", "--energy", "toy", "--limit", "20", cwd=folder).worked()
    shown_in(folder / "runs/tiny_fake")
    assert "late-if" in tool(door, "convert", "--help", cwd=folder).worked()
    tool(door, "convert", "--neuron", "late", cwd=folder).refused("--neuron", "late-if", "stbif")
    tool("eval.py", cwd=folder).refused("late-if", "if, stbif, multi")


def test_recipes_take_them(folder, tool):
    run = folder / "runs/tiny_fake"
    text = (run / "config.yaml").read_text()
    for key, value in (("NEURON", "late-if"), ("READOUT", "last-quarter"), ("ENERGY", "toy")):
        before, _, after = text.partition(f"  {key}: ")
        text = f"{before}  {key}: {value}\n{after.partition(chr(10))[2]}"
    (run / "config.yaml").write_text(text)
    tool("convert.py", cwd=folder).refused("CONVERT.NEURON is 'late-if'")
    tool(folder / "mine.py", "convert", "--tag", "mine", "--no-check", cwd=folder).worked()
    info = json.loads((run / "snn/mine/conversion.json").read_text())["info"]
    assert (info["neuron"], info["readout"]) == ("late-if", "last-quarter")
