import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def converted(trained, tool, tmp_path_factory):
    """A folder with two runs, the second a copy, each with a conversion at T=4."""
    folder = tmp_path_factory.mktemp("converted")
    shutil.copytree(trained / "runs", folder / "runs", symlinks=True)
    tool("convert.py", "--T", "4", "--no-check", cwd=folder).worked()
    shutil.copytree(folder / "runs" / "tiny_fake", folder / "runs" / "tiny_fake-2")
    return folder


def content(folder):
    return json.loads((folder / "eval.json").read_text())


def test_the_latest_run_is_evaluated_and_the_table_is_what_the_file_says(converted, tool):
    said = tool("eval.py", cwd=converted).worked()
    found = content(converted / "runs" / "tiny_fake")
    assert found["schema"] == 1 and found["data"] == "fake" and found["split"] == "val"
    ann, snn = found["models"]
    assert (ann["kind"], snn["kind"]) == ("ann", "converted")
    assert snn["timesteps"] == 4 and len(snn["top1_by_timestep"]) == 4
    assert snn["mask"] == ann["mask"] == 0.5 and snn["batch_independent"] is True
    shown = (snn["top1_by_timestep"][step - 1] for step in (1, 2, 4))
    for value in (ann["top1"], snn["top1"], *shown):
        assert f"{value:.2f}" in said
    assert "smoke tests only" in said and "runs/tiny_fake/eval.json" in said
    report = converted / "runs" / "tiny_fake" / "report.html"
    assert "report.html" in said and report.stat().st_size > 1000


def test_several_runs_stand_in_one_table_and_a_limit_is_said(converted, tool, tmp_path):
    words = ("--run", "runs/tiny_fake", "runs/tiny_fake-2", "--limit", "10", "--timesteps", "1,3")
    out = tmp_path / "both"
    said = tool("eval.py", *words, "--output", out, "--batch-size", 4, cwd=converted).worked()
    assert "10 of 64 images" in said and "--limit" in said
    found = content(out)
    assert found["images"] == found["limit"] == 10 and found["total_images"] == 64
    assert [model["kind"] for model in found["models"]] == ["ann", "converted"] * 2
    first, second = found["models"][1], found["models"][3]
    assert first["timesteps"] == 3 and first["top1_by_timestep"] == second["top1_by_timestep"]
    assert first["acs"] == second["acs"]


def test_chunks_and_batches_are_invisible_and_early_exit_is_told(converted, tool, tmp_path):
    records = []
    for number, words in enumerate((["--chunk", 1], ["--chunk", 4, "--batch-size", 7])):
        words += ["--early-exit", 0.2, "--output", tmp_path / str(number)]
        said = tool("eval.py", "--limit", 20, *words, cwd=converted).worked()
        assert "stopped at confidence 0.2" in said
        records.append(content(tmp_path / str(number))["models"][1])
    for key in ("top1_by_timestep", "agreement_with_ann", "acs"):
        assert records[0][key] == records[1][key]


@pytest.mark.parametrize(
    "words, expected",
    [
        (("--split", "test"), ["test", "val"]),
        (("--split", "select"), ["select"]),
        (("--tag", "mine"), ["no conversion 'mine'", "if-accumulated-T4-mask0.5"]),
        (("--timesteps", "1,0"), ["--timesteps", "at least 1"]),
        (("--early-exit", "0"), ["--early-exit", "(0, 1)"]),
        (("--energy", "46nm"), ["46nm", "45nm-fp32"]),
        (("--limit", "none"), ["--limit"]),
        (("--img-size", "36"), ["36"]),
    ],
)
def test_refused(converted, tool, files_of, words, expected):
    before = files_of(converted)
    tool("eval.py", *words, cwd=converted).refused(*expected)
    assert files_of(converted) == before


def test_a_run_without_conversion_or_with_a_broken_one_is_refused(trained, tool, tmp_path):
    shutil.copytree(trained / "runs", tmp_path / "runs", symlinks=True)
    tool("eval.py", cwd=tmp_path).refused("has no conversion", "tools/convert.py")
    tool("convert.py", "--T", 2, "--no-check", cwd=tmp_path).worked()
    file = next((tmp_path / "runs" / "tiny_fake" / "snn").glob("*/snn.safetensors"))
    file.write_bytes(file.read_bytes()[:1000])
    tool("eval.py", cwd=tmp_path).refused("snn.safetensors", "convert again")


def test_full_disk_keeps_the_old_numbers(converted, tool, files_of):
    tool("eval.py", "--limit", 5, cwd=converted).worked()
    before = files_of(converted)
    result = tool("eval.py", "--limit", 6, cwd=converted, largest_file=4000)
    result.refused("cannot write runs/tiny_fake:", "free some space")
    assert files_of(converted) == before


def test_another_image_size_is_built_anew(converted, tool, tmp_path):
    words = ("--img-size", 64, "--limit", 4, "--output", tmp_path)
    tool("eval.py", *words, cwd=converted).worked()
    assert len(content(tmp_path)["models"]) == 2


@pytest.mark.slow
def test_two_processes_find_the_same(converted, tool, tmp_path):
    tool("eval.py", "--limit", 21, "--output", tmp_path / "one", cwd=converted).worked()
    words = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    words += [str(TOOLS / "eval.py"), "--limit", "21", "--output", str(tmp_path / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *words], cwd=converted, env=environment, check=True)
    pair = [content(tmp_path / name)["models"] for name in ("one", "two")]
    for one, two in zip(*pair, strict=True):
        for key in ("top1", "top1_by_timestep", "agreement_with_ann", "acs", "macs"):
            assert one[key] == two[key], key


@pytest.mark.slow
def test_the_three_commands_one_after_another(tmp_path):
    """As a user types them, in real processes, with the demo's recipe on real digits."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for words in (
        ["train_qcfs.py", "--cfg", "swin_nano_bn.yaml", "--epochs", "6"],
        ["convert.py", "--T", "64", "--mask", "0.75"],
        ["eval.py", "--limit", "500"],
    ):
        words = [sys.executable, str(TOOLS / words[0]), *words[1:]]
        subprocess.run(words, cwd=tmp_path, env=environment, check=True)
    ann, snn = content(tmp_path / "runs" / "swin_nano_bn_mnist5k")["models"]
    assert ann["top1"] > 85 and snn["top1"] > ann["top1"] - 4
