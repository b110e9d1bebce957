import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from spikeswap.configs import get_config

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run):
    return [line["loss"] for line in metrics(run)]


def test_the_run_folder_is_as_promised(trained):
    run = trained / "runs" / "tiny_fake"
    assert (trained / "runs" / "latest").resolve() == run.resolve()
    assert get_config(run / "config.yaml").MODEL.MASK == 0.5
    assert yaml.safe_load((run / "config.yaml").read_text())["TRAIN"]["EPOCHS"] == 2
    lines = metrics(run)
    assert [(line["epoch"], line["split"]) for line in lines] == [(1, "train"), (2, "train")]
    assert set(lines[0]) == {"epoch", "split", "loss", "top1", "top5", "learning_rate", "seconds"}
    checkpoints = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert checkpoints == ["last.pt"]  # no validation part, so nothing may be called the best
    content = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    assert content["epoch"] == 2 and content["build"]["mask"] == 0.5
    assert content["config"]["DATA"]["NAME"] == "fake"


def test_equal_seeds_give_equal_losses_and_the_next_run_gets_a_number(trained, tool, tmp_path):
    shutil.copy(trained / "tiny.yaml", tmp_path)
    shutil.copytree(trained / "runs", tmp_path / "runs", symlinks=True)
    again = tool("train_qcfs.py", "--cfg", "./tiny.yaml", cwd=tmp_path).worked()
    assert "runs/tiny_fake-2" in again
    first, second = tmp_path / "runs" / "tiny_fake", tmp_path / "runs" / "tiny_fake-2"
    assert losses(first) == losses(second)
    assert (tmp_path / "runs" / "latest").resolve() == second.resolve()
    words = ("--seed", "1", "--epochs", "1", "--val-fraction", "0.25")
    tool("train_qcfs.py", "--cfg", "./tiny.yaml", *words, cwd=tmp_path).worked()
    third = tmp_path / "runs" / "tiny_fake-3"
    assert losses(third)[0] != losses(first)[0]
    assert [line["split"] for line in metrics(third)] == ["train", "validation"]
    assert (third / "checkpoints" / "best.pt").is_file()


def test_a_stopped_training_goes_on_exactly(trained, tool, tmp_path):
    """The run as it was after its first epoch, with a line that was written but never saved."""
    shutil.copy(trained / "tiny.yaml", tmp_path)
    words = ("train_qcfs.py", "--cfg", "./tiny.yaml", "--resume", "auto")
    script = tmp_path / "stop.py"
    script.write_text(STOP_AFTER_ONE)
    stopped = tool(script, "--cfg", "./tiny.yaml", cwd=tmp_path)
    assert stopped.code == 130 and "--resume" in stopped.out
    run = tmp_path / "runs" / "tiny_fake"
    assert len(metrics(run)) == 1
    with open(run / "metrics.jsonl", "a") as file:
        file.write(json.dumps({**metrics(run)[0], "epoch": 2, "loss": 99.0}) + "\n")
    said = tool(*words, cwd=tmp_path).worked()
    assert "going on with runs/tiny_fake after epoch 1 of 2" in said
    whole = trained / "runs" / "tiny_fake"
    assert losses(run) == losses(whole)
    one, other = (
        torch.load(path / "checkpoints" / "last.pt", weights_only=True)["model"]
        for path in (run, whole)
    )
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert "nothing was left to train" in tool(*words, cwd=tmp_path).worked()


STOP_AFTER_ONE = """
import runpy, sys
from pathlib import Path
import spikeswap.train.training as training

class Stopped(training.Training):
    def run_epoch(self):
        if self.epoch == 1:
            raise KeyboardInterrupt
        return super().run_epoch()

import spikeswap.train.loop as loop
loop.Training = Stopped
tools = Path(loop.__file__).resolve().parents[1] / "tools"
sys.path.insert(0, str(tools))
runpy.run_path(str(tools / "train_qcfs.py"), run_name="__main__")
"""


def test_weights_to_start_from_and_another_head(trained, tool, tmp_path):
    shutil.copy(trained / "tiny.yaml", tmp_path)
    checkpoint = trained / "runs" / "tiny_fake" / "checkpoints" / "last.pt"
    content = torch.load(checkpoint, weights_only=True)["model"]
    content["head.weight"], content["head.bias"] = torch.ones(100, 16), torch.ones(100)
    torch.save(content, tmp_path / "w.pt")
    words = ("train_qcfs.py", "--cfg", "./tiny.yaml", "--epochs", "1", "--init", "w.pt")
    assert "head.weight, head.bias" in tool(*words, cwd=tmp_path).worked()


@pytest.mark.slow
def test_two_processes_train_one_run(trained, tool, tmp_path):
    shutil.copy(trained / "tiny.yaml", tmp_path)
    words = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    words += [str(TOOLS / "train_qcfs.py"), "--cfg", "./tiny.yaml", "--batch-size", "32"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, check=True)
    assert [path.name for path in (tmp_path / "runs").glob("tiny*")] == ["tiny_fake"]
    assert len(metrics(tmp_path / "runs" / "tiny_fake")) == 2
    tool("convert.py", "--T", 2, "--no-check", cwd=tmp_path).worked()
