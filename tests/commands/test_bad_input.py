"""What a user can get wrong: status 2, the message last, no traceback, nothing half-written."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TRAIN = ("train_qcfs.py", "--cfg", "./tiny.yaml")

REFUSED = {
    "unknown cfg": (("train_qcfs.py", "--cfg", "swin_t_bm.yaml"), ["did you mean swin_t_bn"]),
    "no cfg": (("train_qcfs.py",), ["--cfg swin_t_bn.yaml"]),
    "unknown model": ((*TRAIN, "--set", "MODEL.NAME", "swin_nano"), ["swin_nano_bn"]),
    "unknown override": (
        (*TRAIN, "--set", "MODEL.OVERRIDES.embed_dimm", "8"),
        ["embed_dimm", "override"],
    ),
    "unknown data": ((*TRAIN, "--data", "mnist5"), ["did you mean mnist5k"]),
    "unknown key": ((*TRAIN, "--set", "TRAIN.EPOCH", "3"), ["did you mean TRAIN.EPOCHS"]),
    "key without value": ((*TRAIN, "--set", "TRAIN.EPOCHS"), ["KEY VALUE"]),
    "unknown flag": ((*TRAIN, "--epoch", "3"), ["unknown flag: --epoch", "--epochs"]),
    "stray word": ((*TRAIN, "--download", "now"), ["unexpected word: now"]),
    "missing data folder": (
        (*TRAIN, "--data", "imagefolder", "--data-path", "nowhere"),
        ["nowhere"],
    ),
    "no data folder": ((*TRAIN, "--data", "imagefolder"), ["--data-path"]),
    "image size": ((*TRAIN, "--img-size", "30"), ["30", "24, 32"]),
    "mask not a number": ((*TRAIN, "--mask", "nan"), ["--mask", "[0, 1)"]),
    "mask of one": ((*TRAIN, "--mask", "1"), ["--mask", "[0, 1)"]),
    "mask below zero": ((*TRAIN, "--mask", "-0.1"), ["--mask", "[0, 1)"]),
    "no epochs": ((*TRAIN, "--epochs", "0"), ["--epochs", "at least 1"]),
    "learning rate": ((*TRAIN, "--lr", "inf"), ["--lr"]),
    "device": ((*TRAIN, "--device", "cuda:99"), ["cuda:99"]),
    "missing weights": ((*TRAIN, "--init", "gone.pt"), ["gone.pt"]),
    "resume of nothing": (("train_qcfs.py", "--resume", "runs/gone"), ["runs/gone"]),
    "no run": (("convert.py",), ["train one with"]),
    "run that is gone": (("convert.py", "--run", "runs/gone"), ["runs/gone"]),
    "T of zero": (("convert.py", "--T", "0"), ["--T", "at least 1", "128"]),
    "T below zero": (("convert.py", "--T", "-3"), ["--T", "at least 1"]),
    "T no whole number": (("convert.py", "--T", "2.5"), ["--T", "whole number"]),
    "T no number": (("convert.py", "--T", "many"), ["--T", "whole number"]),
    "mask of a conversion": (("convert.py", "--mask", "NaN"), ["--mask", "[0, 1)"]),
    "neuron": (("convert.py", "--neuron", "iff"), ["--neuron", "stbif"]),
    "weights without cfg": (("convert.py", "--weights", "a.pt"), ["--cfg"]),
    "cfg without weights": (("convert.py", "--cfg", "tiny.yaml"), ["--weights"]),
}


@pytest.fixture
def folder(tmp_path, trained):
    """An empty folder with a tiny recipe."""
    shutil.copy(trained / "tiny.yaml", tmp_path)
    return tmp_path


@pytest.fixture
def with_run(folder, trained):
    """The same with a trained run."""
    shutil.copytree(trained / "runs", folder / "runs", symlinks=True)
    return folder


@pytest.mark.parametrize("case", REFUSED)
def test_refused(folder, tool, files_of, case):
    words, expected = REFUSED[case]
    before = files_of(folder)
    tool(*words, cwd=folder).refused(*expected)
    assert files_of(folder) == before


def class_folders(folder: Path) -> Path:
    from PIL import Image

    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for number in range(4):
                picture = Image.effect_noise((32, 32), 40 + number)
                picture.save(folder / split / name / f"{number}.png")
    return folder


def test_empty_class_folder_and_corrupt_image_are_named(folder, tool, files_of):
    data = class_folders(folder / "pictures")
    words = (*TRAIN, "--data", "imagefolder", "--data-path", "pictures", "--batch-size", "4")
    (folder / "nothing").mkdir()
    tool(*words, "--data-path", "nothing", cwd=folder).refused("nothing")
    (folder / "nothing").rmdir()
    (data / "train" / "bird").mkdir()
    before = files_of(folder)
    tool(*words, cwd=folder).refused("bird")
    (data / "train" / "bird").rmdir()
    (data / "train" / "cat" / "2.png").write_bytes(b"no picture at all")
    tool(*words, cwd=folder).refused("2.png")
    assert set(files_of(folder)) == set(before) - {"pictures/train/bird"}


def truncate(path: Path):
    path.write_bytes(path.read_bytes()[:2000])


def scribble(path: Path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 600] = b"x" * 600
    path.write_bytes(data)


def foreign(path: Path):
    torch.save({"state_dict": {"weight": torch.ones(3)}}, path)


def remove(path: Path):
    path.unlink()


@pytest.mark.parametrize(
    "damage, word",
    [
        (truncate, "truncated, corrupt"),
        (scribble, "truncated, corrupt"),
        (foreign, "not a checkpoint of"),
        (remove, "has no checkpoint"),
    ],
)
def test_bad_checkpoint_is_named(with_run, tool, files_of, damage, word):
    checkpoint = with_run / "runs" / "tiny_fake" / "checkpoints" / "last.pt"
    damage(checkpoint)
    before = files_of(with_run)
    tool("convert.py", "--T", "4", cwd=with_run).refused("tiny_fake", "last.pt", word)
    assert files_of(with_run) == before


def test_a_run_resumes_only_with_its_own_settings(with_run, tool, files_of):
    before = files_of(with_run)
    words = (*TRAIN, "--resume", "auto", "--lr", "0.5")
    tool(*words, cwd=with_run).refused("TRAIN.LR is 0.5, was 0.002")
    assert files_of(with_run) == before


def test_a_bad_tag_is_refused(with_run, tool, files_of):
    before = files_of(with_run)
    tool("convert.py", "--T", "2", "--tag", "../up", cwd=with_run).refused("../up")
    words = (
        "convert.py",
        "--T",
        "2",
        "--calibrate",
        "thresholds",
        "--calibration-images",
        "100000",
    )
    tool(*words, cwd=with_run).refused("--calibration-images")
    assert files_of(with_run) == before


def test_full_disk_leaves_no_run_and_keeps_the_old_checkpoint(with_run, tool, files_of):
    """Both trainings meet a limit on the size of a file, as on a full disk, while saving."""
    before = files_of(with_run)
    full = tool(*TRAIN, cwd=with_run, largest_file=20_000)
    full.refused("cannot write", "last.pt", "free some space")
    assert files_of(with_run) == before
    resumed = tool(*TRAIN, "--resume", "auto", "--epochs", "3", cwd=with_run, largest_file=20_000)
    resumed.refused("cannot write", "last.pt")
    after = files_of(with_run)
    assert after.keys() == before.keys()
    name = "runs/tiny_fake/checkpoints/last.pt"
    assert after[name] == before[name]


def test_full_disk_leaves_no_conversion_and_keeps_the_old_one(with_run, tool, files_of):
    words = ("convert.py", "--T", "2", "--no-check")
    before = files_of(with_run)
    tool(*words, cwd=with_run, largest_file=5_000).refused("cannot", "free some space")
    assert files_of(with_run) == before
    tool(*words, cwd=with_run).worked()
    before = files_of(with_run)
    tool(*words, cwd=with_run, largest_file=5_000).refused("cannot")
    assert files_of(with_run) == before


def test_no_permission_is_said(folder, tool, files_of):
    (folder / "locked").mkdir(mode=0o555)
    before = files_of(folder)
    result = tool(*TRAIN, "--output", "locked/runs", cwd=folder, no_override=True)
    if result.code == 99:
        pytest.skip("this process may not give up its right to write everywhere")
    result.refused("cannot write", "Permission denied", "--output")
    assert files_of(folder) == before


def test_without_the_package_the_way_to_install_it_is_said(tool, tmp_path):
    """A Python that sees neither site-packages nor the working folder."""
    script = Path(__file__).resolve().parents[2] / "tools" / "convert.py"
    done = subprocess.run(
        [sys.executable, "-S", "-E", str(script)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "pip install -e" in done.stderr and len(done.stderr.splitlines()) == 1
