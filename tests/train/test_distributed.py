import os
import subprocess
import sys

import pytest
import torch

from spikeswap import distributed

SCRIPT = """
import os, torch, sys
from torch import nn
from spikeswap.distributed import (start_process_group, stop_process_group, sum_over_processes,
                                   rank, world_size, from_main, barrier)
from spikeswap.train import train_classifier, classification_accuracy
start_process_group(torch.device("cpu"))
total = sum_over_processes({"images": 2**60 + rank(), "loss": 0.1})
assert total == {"images": 2**61 + 1, "loss": 0.2}, total
assert from_main(rank()) == 0
torch.manual_seed(rank())
model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
torch.manual_seed(3)
x, y = torch.randn(16, 4), torch.arange(16) % 3
mine = [(x[i + rank():i + 8:2], y[i + rank():i + 8:2]) for i in (0, 8)]
lines = train_classifier(model, mine, epochs=3, lr=0.05, seed=1)
model.eval()
shard = slice(0, 5) if rank() == 0 else slice(5, 16)
found = classification_accuracy(model, [(x[shard], y[shard])])
assert found["images"] == 16
everything = from_main({name: tensor for name, tensor in model.state_dict().items()})
if rank() == 1:  # buffers are the main process's after the next forward, parameters always
    for name, tensor in model.named_parameters():
        assert torch.equal(tensor, everything[name]), name
barrier()
losses = [round(line["loss"], 9) for line in lines]
os.write(1, f"LOSS {rank()} {losses}\\n".encode())  # one write: lines of two processes stay whole
stop_process_group()
"""


def test_without_torchrun_everything_is_one_process():
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    distributed.start_process_group(torch.device("cpu"))
    assert distributed.sum_over_processes({"a": 3, "b": 0.5}) == {"a": 3, "b": 0.5}
    assert distributed.from_main("x") == "x"
    distributed.barrier()


@pytest.mark.parametrize(
    "name, words", [("gpu", "none of auto"), ("cuda:x", "none of auto"), ("cuda:99", "asked for")]
)
def test_unknown_devices_are_refused(name, words):
    with pytest.raises(ValueError, match=words):
        distributed.choose_device(name)
    assert distributed.choose_device("cpu").type == "cpu"


def test_two_processes_train_one_network(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc_per_node=2",
            "--standalone",
            str(script),
        ],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    printed = [line for line in result.stdout.splitlines() if "LOSS" in line]
    assert len(printed) == 2 and len({line.split("[")[1] for line in printed}) == 1


DIRECT = """
import os, sys, torch
from spikeswap.distributed import start_process_group, stop_process_group, rank, from_main, barrier
from spikeswap.models import create_model
from spikeswap.train import train_classifier
start_process_group(torch.device("cpu"))
torch.manual_seed(rank())
name, arguments = sys.argv[1], {"embed_dim": 16, "depth": 1, "num_heads": 2}
model = create_model(name, num_classes=3, img_size=16, in_chans=1, timesteps=2, **arguments)
start = from_main({key: model.state_dict()[key].clone() for key in model.unused_keys()})
torch.manual_seed(3)
x, y = torch.randn(16, 1, 16, 16), torch.arange(16) % 3
mine = [(x[i + rank():i + 8:2], y[i + rank():i + 8:2]) for i in (0, 8)]
train_classifier(model, mine, epochs=2, lr=0.01, seed=1, per_step=True)
everything = from_main(model.state_dict())
assert start, "this network carries nothing unused"
for key, tensor in model.named_parameters():
    assert torch.equal(tensor, everything[key]), key
for key, tensor in start.items():
    assert torch.equal(tensor, everything[key]), key
barrier()
os.write(1, b"SAME\\n")
stop_process_group()
"""


@pytest.mark.parametrize("name", ["spikingformer", "sdt"])
def test_weights_that_are_never_used_do_not_stop_two_processes(name, tmp_path):
    """Published networks carry parameters without a gradient, for which DDP would wait."""
    script = tmp_path / "direct.py"
    script.write_text(DIRECT)
    words = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    result = subprocess.run(
        [sys.executable, *words, str(script), name],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("SAME") == 2
