"""tools/train_direct.py: run folder, resuming, transfer, published recipes, what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TOOLS = Path(__file__).resolve().parents[2] / "tools"

TINY = """
MODEL:
  NAME: {name}
  OVERRIDES: {overrides}
DATA: {{NAME: fake, IMG_SIZE: 16, IN_CHANS: 1}}
TRAIN: {{EPOCHS: 2, BATCH_SIZE: 8, LR: 0.01, TIMESTEPS: 2}}
"""
FAMILIES = {
    "spikingformer": "{embed_dim: 16, depth: 1, num_heads: 2}",
    "sdt": "{embed_dim: 16, depth: 1, num_heads: 2, tet: true}",
    "spikingresformer": "{widths: [8, 16], num_heads: [1, 2], group_size: 8, depths: [1, 1], "
    "patch_sizes: [2, 1]}",
    "cifar10_snn": "{widths: [8, 8, 8], hidden: 16}",
}


def write(folder, name):
    text = TINY.format(name=name, overrides=FAMILIES[name])
    (folder / f"{name}.yaml").write_text(text)


def losses(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.fixture(scope="module")
def direct(tmp_path_factory, tool):
    """A folder with a run of each family. Not to be changed."""
    folder = tmp_path_factory.mktemp("direct")
    for name in FAMILIES:
        write(folder, name)
        tool("train_direct.py", "--cfg", f"./{name}.yaml", cwd=folder).worked()
    return folder


def test_runs_are_evaluated_in_one_table(direct, tool, tmp_path):
    runs = [str(direct / "runs" / f"{name}_fake") for name in FAMILIES]
    said = tool("eval.py", "--run", *runs, "--output", "out", cwd=tmp_path).worked()
    records = json.loads((tmp_path / "out" / "eval.json").read_text())["models"]
    assert [record["kind"] for record in records] == ["direct"] * 4
    for record, name in zip(records, FAMILIES, strict=True):
        assert f"{name}_fake" in said
        assert record["timesteps"] == 2 and len(record["top1_by_timestep"]) == 2
        assert record["readout"] == "mean"
        assert record["batch_independent"] is True
        assert record["top1"] > 25  # of ten classes: it has learned
        assert record["acs"] > 0 and record["macs"] > 0


def test_a_checkpoint_names_its_kind_and_steps(direct):
    for name in FAMILIES:
        run = direct / "runs" / f"{name}_fake"
        content = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
        assert content["kind"] == "direct" and content["build"]["levels"] is None
        assert content["build"]["overrides"]["timesteps"] == 2
        assert len(losses(run)) == 2


def test_resuming_adds_epochs(direct, tool, tmp_path):
    write(tmp_path, "sdt")
    words = ("train_direct.py", "--cfg", "./sdt.yaml", "--resume", "auto")
    first = tool(*words, "--epochs", "1", cwd=tmp_path).worked()
    assert "starting a new one" in first
    said = tool(*words, cwd=tmp_path).worked()
    assert "after epoch 1 of 2" in said and "planned were 1" in said
    assert len(losses(tmp_path / "runs" / "sdt_fake")) == 2
    assert "nothing was left to train" in tool(*words, cwd=tmp_path).worked()
    more = tool(*words, "--set", "TRAIN.COOLDOWN_EPOCHS", "1", cwd=tmp_path).worked()
    assert "after epoch 2 of 3" in more


def test_equal_seeds_give_equal_losses(direct, tool, tmp_path):
    write(tmp_path, "spikingresformer")
    tool("train_direct.py", "--cfg", "./spikingresformer.yaml", cwd=tmp_path).worked()
    runs = [folder / "runs" / "spikingresformer_fake" for folder in (direct, tmp_path)]
    assert losses(runs[0]) == losses(runs[1])


def test_transfer_names_the_head_that_is_left_out(direct, tool, tmp_path):
    write(tmp_path, "spikingresformer")
    checkpoint = direct / "runs" / "spikingresformer_fake" / "checkpoints" / "last.pt"
    state = torch.load(checkpoint, weights_only=True)["model"]
    state["classifier.weight"] = torch.ones(100, 16)
    torch.save({"model": state}, tmp_path / "imagenet.pth")
    words = ("--epochs", "1", "--img-size", "32", "--init", "imagenet.pth")
    said = tool("train_direct.py", "--cfg", "./spikingresformer.yaml", *words, cwd=tmp_path)
    assert "left out, as the head has another size: classifier.weight" in said.worked()


def test_mixed_precision_augmentation_and_averages_together(tool, tmp_path):
    write(tmp_path, "cifar10_snn")
    words = "TRAIN.AMP bf16 TRAIN.EMA 0.9 TRAIN.MIXUP 0.5 TRAIN.MIX_OFF_EPOCH 1 TRAIN.TET true"
    words += " DATA.AUGMENT imagenet DATA.RAND_AUGMENT rand-m5-n1 DATA.CROP_SCALE [0.5,1.0]"
    words += " TRAIN.WARMUP_EPOCHS 1 TRAIN.WARMUP_LR 1e-4 TRAIN.SCHEDULE epoch"
    tool(
        "train_direct.py", "--cfg", "./cifar10_snn.yaml", "--set", *words.split(), cwd=tmp_path
    ).worked()
    lines = (tmp_path / "runs" / "cifar10_snn_fake" / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [line["top1"] is None for line in found] == [True, False]
    assert found[0]["learning_rate"] == 1e-4


def test_a_published_recipe_runs_on_other_data(tool, tmp_path):
    words = ["--cfg", "spikingformer_cifar10.yaml", "--data", "fake", "--epochs", "1", "--set"]
    words += "TRAIN.COOLDOWN_EPOCHS 1 MODEL.OVERRIDES.embed_dim 24 MODEL.OVERRIDES.depth 1".split()
    said = tool("train_direct.py", *words, cwd=tmp_path).worked()
    assert "trained 2 epochs" in said and "never reaches its peak" in said
    run = tmp_path / "runs" / "spikingformer_cifar10_fake"
    rates = [json.loads(text)["learning_rate"] for text in open(run / "metrics.jsonl")]
    assert rates == [1e-5, 1e-5 + (5e-4 - 1e-5) / 20]


def test_the_rival_with_relu_is_no_spiking_network(tool, tmp_path):
    write(tmp_path, "cifar10_snn")
    text = (tmp_path / "cifar10_snn.yaml").read_text()
    text = text.replace("cifar10_snn", "cifar10_cnn").replace(", TIMESTEPS: 2", "")
    (tmp_path / "cnn.yaml").write_text(text)
    tool("train_direct.py", "--cfg", "./cnn.yaml", "--epochs", "1", cwd=tmp_path).worked()
    content = torch.load(tmp_path / "runs/cnn_fake/checkpoints/last.pt", weights_only=True)
    assert content["kind"] == "ann"
    said = tool("eval.py", cwd=tmp_path).worked()
    assert " ann " in said


REFUSED = {
    "event data": (["--cfg", "spikingformer_cifar10dvs.yaml"], ["cifar10_dvs", "later release"]),
    "no images": (["--cfg", "sdt_8_768_imagenet.yaml", "--data-path", "."], ["imagenet", "train/"]),
    "heads": (
        ["--cfg", "./sdt.yaml", "--set", "MODEL.OVERRIDES.num_heads", "3"],
        ["num_heads is 3", "may be 1, 2, 4, 8, 16"],
    ),
    "image size": (["--cfg", "./sdt.yaml", "--img-size", "18"], ["18", "16 or 20"]),
    "digits as a number": (
        ["--cfg", "./sdt.yaml", "--set", "MODEL.OVERRIDES.pooling_stat", "011"],
        ["pooling_stat", "four digits"],
    ),
    "half precision": (
        ["--cfg", "./sdt.yaml", "--set", "TRAIN.AMP", "fp16", "--device", "cpu"],
        ["fp16", "GPU"],
    ),
    "augmentation": (
        ["--cfg", "./sdt.yaml", "--set", "DATA.AUGMENT", "imagenet", "DATA.RAND_AUGMENT", "rnd"],
        ["rnd", "DATA.RAND_AUGMENT"],
    ),
    "mask": (["--cfg", "./sdt.yaml", "--mask", "0.5"], ["no masked sites", "train_qcfs.py"]),
    "recipe": (["--cfg", "spikingformr_cifar10.yaml"], ["did you mean spikingformer_cifar10"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_user_can_get_wrong(case, tool, tmp_path):
    write(tmp_path, "sdt")
    words, expected = REFUSED[case]
    tool("train_direct.py", *words, cwd=tmp_path).refused(*expected)
    assert not (tmp_path / "runs").exists()


def test_published_weights_become_a_run(direct, tool, tmp_path):
    write(tmp_path, "spikingformer")
    last = torch.load(
        direct / "runs" / "spikingformer_fake" / "checkpoints" / "last.pt", weights_only=True
    )
    state = {f"module.{key}": value for key, value in last["model"].items()}
    torch.save({"state_dict": state, "epoch": 7}, tmp_path / "published.pth")
    words = ("convert.py", "--weights", "published.pth", "--cfg", "./spikingformer.yaml")
    said = tool(*words, cwd=tmp_path).worked()
    assert "spikes already" in said and "of them used" in said
    assert "never used: block.0.norm1.weight" in said
    rows = tool("eval.py", cwd=tmp_path).worked()
    assert " direct " in rows
    found = json.loads((tmp_path / "runs" / "latest" / "eval.json").read_text())["models"][0]
    again = tool(
        "eval.py",
        "--output",
        tmp_path / "o",
        "--run",
        direct / "runs/spikingformer_fake",
        cwd=tmp_path,
    )
    again.worked()
    trained = json.loads((tmp_path / "o" / "eval.json").read_text())["models"][0]
    assert found["top1_by_timestep"] == trained["top1_by_timestep"]
    assert found["acs"] == trained["acs"]
    del state["module.head.bias"]
    torch.save(state, tmp_path / "published.pth")
    tool(*words, cwd=tmp_path).refused("missing: head.bias")


@pytest.mark.slow
def test_two_processes_train_a_network_with_dead_weights(tool, tmp_path):
    write(tmp_path, "spikingformer")
    words = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    words += [str(TOOLS / "train_direct.py"), "--cfg", "./spikingformer.yaml", "--batch-size", "4"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, check=True)
    assert [path.name for path in (tmp_path / "runs").glob("spik*")] == ["spikingformer_fake"]
    assert len(losses(tmp_path / "runs" / "spikingformer_fake")) == 2
    assert " direct " in tool("eval.py", cwd=tmp_path).worked()
