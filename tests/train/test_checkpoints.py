import errno
import os
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from spikeswap.models import create_model
from spikeswap.train import load_checkpoint, save_checkpoint

BUILD = {"model": "resnet20", "num_classes": 10, "img_size": 16, "in_chans": 3, "overrides": {}}
STATE = create_model("resnet20", img_size=16).state_dict()


def content(value=1.0):
    return {
        "model": OrderedDict({**STATE, "fc.bias": torch.full((10,), value)}),
        "build": {**BUILD, "levels": None, "threshold": None, "mask": 0.0},
        "config": {"TRAIN": {"EPOCHS": 3}},
        "epoch": 2,
        "optimizer": {"betas": (0.9, 0.999)},
        "best": {"top1": np.float64(5.0)},
    }


def test_readable_with_weights_only_and_equal(tmp_path):
    path = tmp_path / "checkpoints" / "last.pt"
    save_checkpoint(path, content())
    raw = torch.load(path, weights_only=True)
    assert raw["epoch"] == 2 and type(raw["best"]["top1"]) is float
    assert type(raw["model"]) is dict
    found = load_checkpoint(path)["model"]
    assert torch.equal(found["fc.bias"], torch.ones(10)) and found.keys() == STATE.keys()
    assert os.listdir(path.parent) == ["last.pt"]


def test_what_weights_only_refuses_is_refused_at_saving(tmp_path):
    with pytest.raises(TypeError, match="cannot hold"):
        save_checkpoint(tmp_path / "a.pt", {**content(), "extra": object()})
    assert not os.listdir(tmp_path)


def test_the_old_file_survives_a_full_disk(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, content(1.0))

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"cannot write .*last\.pt: No space left.*free some space"):
        save_checkpoint(path, content(2.0))
    monkeypatch.undo()
    assert float(load_checkpoint(path)["model"]["fc.bias"][0]) == 1.0
    assert os.listdir(tmp_path) == ["last.pt"]


def truncated(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flipped(path):
    with zipfile.ZipFile(path) as archive:
        info = next(i for i in archive.infolist() if "/data/" in i.filename)
    data = bytearray(path.read_bytes())
    data[info.header_offset + 400] ^= 255
    path.write_bytes(data)


def text(path):
    path.write_text("this is no checkpoint\n")


def empty(path):
    path.write_bytes(b"")


def gone(path):
    path.unlink()


def foreign(path):
    torch.save({"state_dict": {"a": torch.ones(2)}}, path)


def code(path):
    torch.save({"model": os.system}, path)


def lacking(path):
    torch.save({"format": "spikeswap-checkpoint", "schema": 1, "model": {}}, path)


def newer(path):
    torch.save({"format": "spikeswap-checkpoint", "schema": 99}, path)


@pytest.mark.parametrize(
    "damage, words",
    [
        (truncated, "truncated, corrupt"),
        (flipped, "checksum|truncated, corrupt"),
        (text, "truncated, corrupt or another kind"),
        (empty, "is empty"),
        (gone, "there is no checkpoint"),
        (foreign, "--weights PATH --cfg NAME"),
        (code, "is not a checkpoint of tools"),
        (lacking, "lacks build"),
        (newer, "schema 99"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, damage, words):
    path = tmp_path / "last.pt"
    save_checkpoint(path, content())
    damage(path)
    with pytest.raises(ValueError, match=words) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def changed(**more):
    return lambda c: {**c, **more}


def built(**more):
    return lambda c: {**c, "build": {**c["build"], **more}}


def with_weight(name, tensor):
    return lambda c: {**c, "model": {**c["model"], name: tensor}}


def without(name):
    return lambda c: {**c, "model": {k: v for k, v in c["model"].items() if k != name}}


@pytest.mark.parametrize(
    "change, words",
    [
        (changed(epoch="x"), "epoch is a str"),
        (changed(epoch=-1), "epoch is -1"),
        (changed(model=[1]), "model is a list"),
        (changed(build=None), "build is a NoneType"),
        (changed(config={"TRAIN": 3}), "under 'TRAIN'"),
        (changed(kind=7), "kind is a int"),
        (changed(optimizer=[]), "optimizer is a list"),
        (changed(best={}), "best has the accuracy None"),
        (changed(model_ema={"w": 3}), "its model_ema holds no state dict"),
        (built(levels=0), "build.levels is 0"),
        (built(levels=10**12), "build.levels is 1000000000000"),
        (built(levels=True), "build.levels is True"),
        (built(threshold=-1.0), "build.threshold is -1"),
        (built(threshold=float("nan")), "build.threshold is nan"),
        (built(mask=7), "build.mask is 7"),
        (built(mask="x" * 10**6), "build.mask is 'xxx"),
        (built(mask_sites=[1]), "build.mask_sites"),
        (built(overrides=[1]), r"build.overrides is \[1\]"),
        (built(overrides={"depths": [10**9]}), "build.overrides"),
        (built(overrides={"nonsense": 1}), "no such override"),
        (built(overrides={3: 1}), "makes no network"),
        (built(overrides={"num_classes": 4}), "makes no network"),
        (built(model="resnet19"), "build.model is 'resnet19'"),
        (built(model=["resnet20"]), "build.model is"),
        (built(num_classes=0), "build.num_classes is 0"),
        (built(num_classes=10**6), r"fc.weight is \(10, 64\), but its build needs \(1000000, 64\)"),
        (built(in_chans="3"), "build.in_chans is '3'"),
        (built(img_size=10**9), "build.img_size"),
        (built(model="sdt", overrides={"depth": 10**6}), "many more layers"),
        (
            built(model="swin_bn", overrides={"embed_dim": 2**20, "depths": "ab"}),
            "makes no network",
        ),
        (without("fc.weight"), "fc.weight is missing"),
        (with_weight("fc.weight", torch.ones(3)), r"fc.weight is \(3,\)"),
        (with_weight("fc.bias", torch.ones(10, dtype=torch.complex64)), "complex64"),
        (with_weight("fc.bias", torch.full((10,), float("nan"))), "'fc.bias' holds NaN"),
        (with_weight("bn1.running_var", torch.full((16,), -1.0)), "a variance below 0"),
    ],
)
def test_impossible_values_are_refused_by_file_and_entry(change, words, tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, change(content()))
    with pytest.raises(ValueError, match=words) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
