import json
import shutil

import pytest
import torch

import spikeswap
from spikeswap.train import load_checkpoint, restore_network


@pytest.fixture
def folder(trained, tmp_path):
    shutil.copytree(trained / "runs", tmp_path / "runs", symlinks=True)
    return tmp_path


def test_a_conversion_says_what_it_used_and_comes_back(folder, tool):
    said = tool("convert.py", "--T", "6", cwd=folder).worked()
    for words in ("neuron", "attention", "readout", "as trained", "(given)", "(default)"):
        assert words in said
    assert said.splitlines()[-1].startswith("Relative error of the logits against the clipped")
    tag = folder / "runs" / "tiny_fake" / "snn" / "if-accumulated-T6-mask0.5"
    assert sorted(path.name for path in tag.iterdir()) == ["conversion.json", "snn.safetensors"]
    content = json.loads((tag / "conversion.json").read_text())
    assert content["info"]["timesteps"] == 6 and content["made"]["mask"] == 0.5
    assert len(content["info"]["layer_errors"]) == 24
    snn = spikeswap.load(tag)
    images = torch.rand(2, 3, 32, 32)
    assert snn(images).shape == (6, 2, 10)
    checkpoint = load_checkpoint(folder / "runs" / "tiny_fake" / "checkpoints" / "last.pt")
    network = restore_network(checkpoint)
    again = spikeswap.convert.convert_model(network, readout=snn.info["readout"])
    assert torch.equal(again(images, timesteps=6), snn(images))


def test_another_mask_is_warned_about_and_other_neurons_take_their_own_readout(folder, tool):
    said = tool("convert.py", "--T", "3", "--mask", "0.75", "--no-check", cwd=folder).worked()
    assert "warning: trained with mask ratio 0.5" in said
    words = ("--T", "3", "--neuron", "multi", "--tag", "mine", "--run", "runs/latest", "--no-check")
    said = tool("convert.py", *words, cwd=folder).worked()
    assert "the only one for multi" in said or "mean" in said
    assert (folder / "runs" / "tiny_fake" / "snn" / "mine" / "conversion.json").is_file()
    assert (folder / "runs" / "tiny_fake" / "snn" / "if-accumulated-T3-mask0.75").is_dir()
