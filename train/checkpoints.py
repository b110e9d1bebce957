"""Checkpoints: one dictionary of tensors, dictionaries, lists, text and numbers.

Readable with `torch.load(path, weights_only=True)`; written to a temporary name, then renamed.
"""

import io
import math
from pathlib import Path

import torch

from ..support.atomic import write_file
from ..support.messages import shown
from ..support.state_dicts import check_state_dict
from ..support.weight_files import read_checkpoint
from .network import check_build

FORMAT = "spikeswap-checkpoint"
SCHEMA = 1
_NEEDED = {"model": dict, "build": dict, "config": dict, "epoch": int}
_OPTIONAL = {"model_ema": dict, "optimizer": dict, "scaler": dict, "best": dict, "data": dict}
_OPTIONAL |= {"kind": str, "epochs": int}  # any of them may also be None


def save_checkpoint(path: Path, content: dict) -> None:
    """Write a checkpoint; an older file survives every failure.

    Args:
        path: e.g. runs/NAME/checkpoints/last.pt; its folder is made if needed.
        content: at least model (state dict), build, config, epoch; see `plain` for what it may
            hold.

    Raises:
        OSError: disk full, no permission; names the file.
    """
    missing = [key for key in _NEEDED if key not in content]
    assert not missing, missing
    buffer = io.BytesIO()  # torch's own file writer aborts the process on some full disks
    torch.save(plain({"format": FORMAT, "schema": SCHEMA, **content}), buffer)
    write_file(path, buffer.getbuffer())


def plain(value):
    """A copy made of plain containers, with tensors on the CPU and without autograd history.

    Raises:
        TypeError: something that `weights_only` loading would refuse.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return (
            type(value)(plain(inner) for inner in value)
            if type(value) in (list, tuple)
            else [plain(inner) for inner in value]
        )
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (bool, int, float, str)):  # numpy numbers, enums of text
        return next(kind(value) for kind in (bool, int, float, str) if isinstance(value, kind))
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}: {value!r}")


def load_checkpoint(path: Path) -> dict:
    """Read one of our checkpoints, on the CPU.

    Raises:
        ValueError: missing, truncated, corrupt, not ours, or with impossible values; names file,
            condition, next step.
    """
    content = read_checkpoint(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a checkpoint of tools/train_qcfs.py; convert foreign "
            "weights with tools/convert.py --weights PATH --cfg NAME, or start a "
            "training from them with --init PATH"
        )
    if content.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} has checkpoint schema {shown(content.get('schema'))}, this version "
            f"reads {SCHEMA}; use the version of spikeswap that wrote it"
        )
    missing = [key for key in _NEEDED if key not in content]
    if missing:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}; train again, or use the other "
            "checkpoint of that run"
        )
    try:
        _check_content(content)
    except ValueError as error:
        raise ValueError(f"{path} is damaged or was made by something else: {error}") from error
    return content


def _check_content(content: dict) -> None:
    """ValueError for the first entry that training or conversion could not use."""
    for key, kind in (_NEEDED | _OPTIONAL).items():
        value = content.get(key)
        if type(value) is not kind and not (key in _OPTIONAL and value is None):
            raise ValueError(f"{key} is a {type(value).__name__}, but must be a {kind.__name__}")
    if content["epoch"] < 0:
        raise ValueError(f"epoch is {content['epoch']}, but must be 0 or more")
    wrong = [group for group, values in content["config"].items() if type(values) is not dict]
    if wrong:
        raise ValueError(f"config holds no keys and values under {shown(wrong[0])}")
    best = content.get("best")
    if best is not None and not math.isfinite(_number(best.get("top1"))):
        raise ValueError(f"best has the accuracy {shown(best.get('top1'))}, which is no number")
    check_state_dict(content["model"], "its model")
    check_state_dict(content.get("model_ema") or {}, "its model_ema")
    check_build(content["build"], content["model"])


def _number(value) -> float:
    return value if type(value) in (int, float) else math.nan
