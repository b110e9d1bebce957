"""Files are read back by the targets' own importers: same spikes, or a grade that says what differs."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from spikeswap.convert import convert_model
from spikeswap.export import export

SINABS = Path(__file__).resolve().parents[2] / ".deploy/sinabs/bin/python"
HERE = [name for name in ("nir", "spikingjelly", "snntorch") if importlib.util.find_spec(name)]
PYTHON = dict.fromkeys(HERE, sys.executable)
if SINABS.is_file():
    PYTHON["sinabs"] = str(SINABS)
targets = pytest.mark.parametrize("target", [
    pytest.param(name, marks=[] if name in PYTHON else pytest.mark.skip("make deploy-check makes it"))
    for name in ("nir", "spikingjelly", "snntorch", "sinabs")
])  # fmt: skip


@targets
def test_a_target_does_what_the_network_does(network, target, tmp_path):
    snn, images = network
    record = export(
        snn, tmp_path / "out", target, example=images, timesteps=12, python=PYTHON[target]
    )
    assert record["grade"] == "faithful", record["why"]
    assert record["agreement"] == 100 and record["nodes"] == []
    assert record["rule"]["breaches"] == 0 and record["rule"]["ties"] <= 3
    assert record["rule"]["readout_error"] < 1e-5 and record["images"] == len(images)
    assert record["same_images"] >= len(images) - 1 and record["same_readout_error"] < 1e-5
    if target in ("nir", "spikingjelly"):  # their own import resets to 0
        assert record["default_import"]["differing_spikes"] > 100
        assert record["default_import"]["readout_error"] > 10 * record["readout_error"]


class Dyadic(nn.Module):
    """Weights and images are eighths: potentials meet the threshold exactly, again and again."""

    def __init__(self):
        super().__init__()
        self.conv, self.conv2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3, stride=2)
        self.relu, self.relu2 = nn.ReLU(), nn.ReLU()
        self.head = nn.Linear(6 * 9, 3)

    def forward(self, x):
        return self.head(self.relu2(self.conv2(self.relu(self.conv(x)))).flatten(1))


@targets
def test_ties_fire_everywhere(target, tmp_path):
    torch.manual_seed(0)
    model = Dyadic()
    for parameter in model.parameters():
        parameter.data = torch.randint(-4, 5, parameter.shape) / 8
    images = torch.randint(0, 9, (4, 1, 8, 8)) / 8
    snn = convert_model(model.eval(), neuron="if", calibration=[images], method="max", mask=0)
    for site in snn.sites.values():
        site.neuron.threshold.fill_(1.0)
    with snn.record(membrane=True) as spikes:
        snn(images, timesteps=16)
    left = [spikes.membrane[name][sent.bool()] for name, sent in spikes.items()]
    at_zero = sum(int((v == 0).sum()) for v in left)
    assert at_zero > 50  # fired exactly at the threshold
    record = export(
        snn, tmp_path / "out", target, example=images, timesteps=16, python=PYTHON[target]
    )
    assert record["grade"] == "faithful" and record["differing_spikes"] == {}
    assert record["rule"]["ties"] == 0


@pytest.mark.skipif("sinabs" not in PYTHON, reason="make deploy-check makes it")
def test_what_an_import_changes_is_told(tmp_path):
    """sinabs' own import sends several spikes per step; without sums of branches it does run."""
    torch.manual_seed(0)
    model = Dyadic().eval()
    images = 3 * torch.rand(8, 1, 8, 8)
    snn = convert_model(model, neuron="if", calibration=[images], method="percentile", mask=0)
    for site in snn.sites.values():
        site.neuron.threshold.mul_(0.3)
    record = export(
        snn, tmp_path / "out", "sinabs", example=images, timesteps=16, python=PYTHON["sinabs"]
    )
    assert record["grade"] == "faithful"
    default = record["default_import"]
    assert default["differing_spikes"] > 0 and default["readout_error"] > 0.01


def test_a_missing_package_leaves_the_file_unchecked(network, tmp_path, monkeypatch):
    snn, images = network
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    (tmp_path / "path" / "snntorch").mkdir(parents=True)
    (tmp_path / "path" / "snntorch" / "__init__.py").write_text("raise ImportError('not here')")
    record = export(snn, tmp_path / "out", "snntorch", example=images, timesteps=12)
    assert record["grade"] == "not checked" and "pip install" in record["why"]
    assert record["agreement"] is None and (tmp_path / "out" / "network.nir").is_file()


def test_a_reader_that_dies_is_told(network, tmp_path, monkeypatch):
    snn, images = network
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    (tmp_path / "path" / "nir").mkdir(parents=True)
    (tmp_path / "path" / "nir" / "__init__.py").write_text("import os; os._exit(3)")
    record = export(snn, tmp_path / "out", "nir", example=images, timesteps=12)
    assert record["grade"] == "unsupported" and "died" in record["why"]


def test_the_script_beside_the_file_compares(network, tmp_path):
    snn, images = network
    export(snn, tmp_path / "out", "nir", example=images, timesteps=12)
    ran = subprocess.run(
        [sys.executable, "golden.py"],
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
        check=True,
    )
    lines = ran.stdout.splitlines()
    assert len(lines) == len(snn.sites) + 1
    assert all(": 0 of" in line for line in lines[:-1]) and lines[-1].startswith("output: largest")


@pytest.mark.slow  # tests/export/test_files.py has nir with both
@targets
@pytest.mark.parametrize("bits", [16, 8])
def test_whole_numbers(network, target, bits, tmp_path):
    snn, images = network
    record = export(
        snn, tmp_path / "out", target, bits, example=images, timesteps=12, python=PYTHON[target]
    )
    assert record["rule"]["breaches"] == 0
    assert record["readout_error"] < (0.15 if bits == 8 else 0.02)
