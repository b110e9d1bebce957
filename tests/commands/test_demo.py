"""`spikeswap demo`: a report of a network that comes with the package."""

import json

from spikeswap.commands.demo import own_copy


def test_a_report_at_once_in_a_run_folder_of_ones_own(tool, tmp_path):
    said = tool("demo.py", "--limit", 6, cwd=tmp_path).worked()
    run = tmp_path / "runs/swin_nano_bn_mnist5k"
    assert "6 of 1000 images" in said and f"report: {run.relative_to(tmp_path)}/report.html" in said
    models = json.loads((run / "eval.json").read_text())["models"]
    assert [(m["kind"], m["neuron"], m["timesteps"]) for m in models] == [
        ("ann", None, None), ("converted", "if", 128), ("converted", "multi", 14)]  # fmt: skip
    assert not list(run.glob("figures/*"))  # the page has them
    # what it says next works, and another call takes the same folder
    command = next(line for line in said.splitlines() if line.startswith("next: "))
    words = command.partition(" convert ")[2].split()
    tool("convert.py", *words, "--no-check", cwd=tmp_path).worked()
    assert own_copy(tmp_path / "runs") == run
    (run / "checkpoints/last.pt").write_bytes(b"another run of that name")
    assert own_copy(tmp_path / "runs").name == f"{run.name}-2"


def test_bad_input(tool, tmp_path):
    tool("demo.py", "--limit", "no", cwd=tmp_path).refused("a number of images")
    (tmp_path / "taken").write_text("a file")
    tool("demo.py", "--output", "taken", cwd=tmp_path).refused("taken")
