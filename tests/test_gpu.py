"""A GPU gives what the CPU gives: conversion, spikes, masks, counts, saved files, training.

Left out, with a line, where there is no GPU.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import spikeswap
from spikeswap.convert import convert_model, insert_qcfs, reference_network
from spikeswap.evaluate import evaluate
from spikeswap.models import create_model
from spikeswap.neurons import NEURONS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU here")

CLONE = Path(__file__).resolve().parents[1]
SWIN = {"patch_size": 4, "window_size": 4, "embed_dim": 24, "num_heads": (1, 2)}
NETWORKS = {"resnet18": {"widths": (8, 16, 16, 16)}, "swin_nano_bn": SWIN}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    model = create_model(
        request.param, num_classes=10, in_chans=1, img_size=32, **NETWORKS[request.param]
    )
    model = insert_qcfs(model, levels=8, threshold=1.0, mask=0.5).train()
    with torch.no_grad():  # statistics of something
        for _ in range(20):
            model(torch.randn(16, 1, 32, 32))
    return model.eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(6, 1, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("neuron", NEURONS)
def test_the_same_readouts_and_spikes(network, images, neuron):
    here = convert_model(network.double(), neuron=neuron, seed=3)
    there = convert_model(network.double().cuda(), neuron=neuron, seed=3)
    network.cpu()
    with here.record() as spikes_here, there.record() as spikes_there:
        expected = here(images.double(), timesteps=24)
        found = there(images.double().cuda(), timesteps=24, chunk=7)
    assert found.is_cuda
    assert (found.cpu() - expected).abs().max() <= 1e-9 * expected.abs().max()
    for site in here.sites:
        assert torch.equal(spikes_here[site], spikes_there[site].cpu()), site


@pytest.mark.parametrize("neuron", ["multi", "stbif"])
def test_float32_is_not_rounded_to_tf32(network, images, neuron):
    """PyTorch would round in convolutions by default, here it is asked to in all products."""
    torch.manual_seed(0)
    snn = convert_model(network.float().cuda(), neuron=neuron)
    from spikeswap.support.precision import without_tf32  # noqa: PLC0415

    with without_tf32():
        expected = reference_network(snn, network)(images.cuda())
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    try:
        found = snn(images.cuda(), timesteps=200)[-1]
        assert torch.backends.cuda.matmul.allow_tf32 is True
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    network.cpu()
    close = (found - expected).abs().amax(1) <= 1e-4 * expected.abs().max()
    assert close.float().mean() >= 0.8  # a tie of float32 may fall otherwise in one image


def test_moved_there_and_back_and_through_a_file(network, images, tmp_path):
    snn = convert_model(network.double(), neuron="multi")
    expected = snn(images.double(), timesteps=12)
    there = snn.cuda()(images.double().cuda(), timesteps=12)
    snn.save(tmp_path / "snn")
    loaded = spikeswap.load(tmp_path / "snn")
    assert next(loaded.parameters()).device.type == "cpu"
    found = loaded(images.double(), timesteps=12)
    again = loaded.cuda()(images.double().cuda(), timesteps=12)
    for readout in (there, found, again):
        assert (readout.cpu() - expected).abs().max() <= 1e-9 * expected.abs().max()
    network.cpu()


@pytest.mark.parametrize("neuron", NEURONS)
def test_the_same_counts(network, images, neuron):
    loader = [(images.double(), torch.arange(6))]
    snn = convert_model(network.double(), neuron=neuron)
    here = evaluate(snn, loader, timesteps=12)
    there = evaluate(snn.cuda(), loader, timesteps=12, device="cuda")
    for key in ("macs", "acs", "synaptic_operations", "energy_millijoules", "top1_by_timestep"):
        assert here[key] == there[key], key
    assert there["peak_memory_bytes"] > 0


@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
def test_train_convert_and_evaluate_with_the_commands(amp, tmp_path):
    def tool(name, *arguments, launcher=()):
        done = subprocess.run(
            [sys.executable, *launcher, str(CLONE / "tools" / name), *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    launcher = (
        ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1")
        if amp == "bf16"  # once under torchrun: nccl
        else ()
    )
    printed = tool(
        "train_qcfs.py",
        *("--cfg", "swin_nano_bn.yaml", "--epochs", "2", "--output", str(tmp_path)),
        *("--set", "TRAIN.AMP", amp, "TRAIN.EMA", "0.9", "TRAIN.SPIKE_COST", "0.1"),
        launcher=launcher,
    )
    assert "cuda" in printed
    (run,) = tmp_path.glob("swin_nano_bn*")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["top1"] > 50
    tool("convert.py", "--run", str(run), "--neuron", "multi", "--T", "12")
    tool("eval.py", "--run", str(run), "--limit", "200")
    models = json.loads((run / "eval.json").read_text())["models"]
    snn = next(model for model in models if model["kind"] == "converted")
    ann = next(model for model in models if model["kind"] == "ann")
    assert abs(snn["top1"] - ann["top1"]) <= 2
