"""tools/convert.py on networks and images of a stranger: three doors, one reader of weights."""

import json
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image

from spikeswap.models.theirs import Theirs, input_of, load_theirs

CLONE = Path(__file__).resolve().parents[2]
NETWORK = """
from torch import nn


def small():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.GELU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3),
    )


def nothing():
    return 3
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a package, its weights, images in class folders and images without."""
    folder = tmp_path_factory.mktemp("stranger")
    (folder / "mynets.py").write_text(NETWORK)
    torch.manual_seed(0)
    space: dict = {}
    exec(NETWORK, space)
    state = space["small"]().state_dict()
    torch.save({"model": {f"backbone.{k}": v for k, v in state.items()}}, folder / "small.pth")
    noise = torch.Generator().manual_seed(0)
    for number in range(24):
        pixels = torch.randint(0, 255, (40, 36, 3), generator=noise, dtype=torch.uint8).numpy()
        for path in (folder / "flat", folder / "classes" / "abc"[number % 3]):
            path.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path / f"{number}.png")
    return folder


SMALL = "--model mynets:small --img-size 32 --mean 0.5 --std 0.5 --data imagefolder".split()
QUICK = "--calibration-images 12 --T 6 --levels 8 --method max".split()


def test_a_function_of_ones_own_with_class_folders_from_weights_to_report(tool, place):
    weights = ["--weights", "small.pth", "--weights-prefix", "backbone."]
    made = tool("convert.py", *SMALL, *weights, *QUICK, "--data-path", "classes", "--output", "mine",
        cwd=place,
    )  # fmt: skip
    assert made.code == 0, made.err
    assert "held-out images at T = 6: the same class as your network's on" in made.out
    assert "top-1 there: your network" in made.out
    written = next((place / "mine").glob("mynets-small_imagefolder/snn/*/conversion.json"))
    info = json.loads(written.read_text())["info"]
    assert info["sites"] == "all" and info["fidelity"]["method"] == "max" and info["levels"] == 8
    folder = written.parents[2]
    shown = tool("eval.py", "--run", folder, cwd=place)
    assert shown.code == 0, shown.err
    assert "is not called because a file names it" in shown.out
    (row,) = json.loads((folder / "eval.json").read_text())["models"]
    assert row["kind"] == "converted" and row["top1"] is not None


def test_timm_with_images_without_labels(tool, place):
    torch.manual_seed(1)
    model = timm.create_model("test_resnet", num_classes=7)
    state = {f"module.{k}": v for k, v in model.state_dict().items()}
    torch.save({"state_dict_ema": state, "epoch": 3}, place / "resnet.pth")
    made = tool("convert.py", "--timm", "test_resnet", "--weights", "resnet.pth", "--classes", 7,
        "--img-size", 48, "--data", "imagefolder", "--data-path", "flat", *QUICK, "--output", "his",
        cwd=place,
    )  # fmt: skip
    assert made.code == 0, made.err
    assert "the same class as your network's on" in made.out and "no accuracy" in made.out
    shown = tool("eval.py", "--run", "his/test_resnet_imagefolder", cwd=place)
    assert shown.code == 0, shown.err
    record = json.loads((place / "his/test_resnet_imagefolder/eval.json").read_text())
    ann, snn = record["models"]
    assert ann["kind"] == "ann" and snn["top1"] is None and snn["acs"] > 0


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("--timm resnet1 --data imagefolder --data-path flat", "did you mean resnet18"),
        ("--torchvision resnet1 --data imagefolder --data-path flat", "torchvision has no model"),
        ("--timm hf-hub:someone/else --data imagefolder --data-path flat", "timm has no model"),
        ("--timm test_vit --torchvision resnet18", "name two networks"),
        ("--timm test_vit --run runs/latest", "name two networks"),
        ("--timm test_vit", "needs images to calibrate with"),
        ("--model mynets --data imagefolder --data-path flat", "PACKAGE.MODULE:FUNCTION"),
        ("--model mynets:absent --data imagefolder --data-path flat", "mynets:absent"),
        ("--model mynets:nothing --data imagefolder --data-path flat", "no nn.Module"),
        (
            "--timm test_vit --weights small.pth --data imagefolder --data-path flat",
            "do not fit test_vit: it lacks cls_token",
        ),
        (
            "--model mynets:small --img-size 32 --data imagefolder --data-path absent",
            "absent",
        ),
        ("--levels 8", "--levels belongs to --timm, --torchvision or --model"),
        ("--timm test_vit --mean 1,2", "one number or three"),
    ],
)
def test_bad_input_is_one_sentence(tool, place, arguments, words):
    failed = tool("convert.py", *arguments.split(), cwd=place)
    assert failed.code == 2 and words in failed.err.splitlines()[-1]
    assert "Traceback" not in failed.err and not (place / "runs").exists()


def test_a_function_named_in_a_strangers_run_is_not_called(tool, place, tmp_path):
    """Its checkpoint names a function that leaves a trace when it is called."""
    (tmp_path / "trap.py").write_text("def spring():\n    open('sprung', 'w')\n")
    made = tool("convert.py", *SMALL, *QUICK, "--data-path", place / "classes", "--output", tmp_path,
        cwd=place,
    )  # fmt: skip
    assert made.code == 0, made.err
    folder = tmp_path / "mynets-small_imagefolder"
    file = folder / "checkpoints" / "last.pt"
    content = torch.load(file, weights_only=True)
    content["build"]["model"] = "trap:spring"
    torch.save(content, file)
    tool("eval.py", "--run", folder, cwd=tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_a_head_of_another_size_is_named(tool, tmp_path):
    model = timm.create_model("test_resnet", num_classes=5)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"fc.weight is \(5, \d+\), not \(7, \d+\).*--classes"):
        load_theirs(Theirs("timm", "test_resnet", 7), tmp_path / "w.pth")


def test_size_and_normalisation_are_those_of_the_library():
    theirs = Theirs("timm", "vit_tiny_patch16_224", 3)
    found = input_of(theirs, theirs.make())
    assert found == {"img_size": 224, "in_chans": 3, "mean": [0.5] * 3, "std": [0.5] * 3}
    theirs = Theirs("torchvision", "resnet18", 3)
    found = input_of(theirs, theirs.make())
    assert found["img_size"] == 224 and found["mean"] == [0.485, 0.456, 0.406]
