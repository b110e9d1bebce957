"""Checkpoints: one dictionary of tensors, dictionaries, lists, text and numbers.

Readable with `torch.load(path, weights_only=True)`; written to a temporary name, then renamed.
"""

import io
import pickle
import zipfile
from pathlib import Path

import torch

from .atomic import write_file

FORMAT = "spikeswap-checkpoint"
SCHEMA = 1
_NEEDED = ("model", "build", "config", "epoch")
# What torch.load and zipfile raise on damaged bytes.
_DAMAGE = (
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    ValueError,
    UnicodeDecodeError,
)


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
        ValueError: missing, truncated, corrupt, or not ours; names file, condition, next step.
    """
    path = Path(path)
    content = read_torch_file(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a checkpoint of tools/train_qcfs.py; convert foreign "
            "weights with tools/convert.py --weights PATH --cfg NAME, or start a "
            "training from them with --init PATH"
        )
    if content.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} has checkpoint schema {content.get('schema')!r}, this version "
            f"reads {SCHEMA}; use the version of spikeswap that wrote it"
        )
    missing = [key for key in _NEEDED if key not in content]
    if missing:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}; train again, or use the other "
            "checkpoint of that run"
        )
    return content


def read_torch_file(path: Path):
    """The content of a file of torch.save, checksums verified; tensors on the CPU.

    Raises:
        ValueError: missing, truncated, corrupt, or holding more than plain data.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"there is no checkpoint {path}; train one with python "
            "tools/train_qcfs.py --cfg swin_t_bn.yaml, or name another file"
        )
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; restore it or train again")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
            if broken:
                raise zipfile.BadZipFile(f"bad checksum in {broken}")
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read: {error.strerror or error}; check its permissions"
        ) from error
    except _DAMAGE as error:
        raise ValueError(
            f"{path} is no readable checkpoint: it is truncated, corrupt or another "
            f"kind of file ({_first_line(error)}); restore it or train again"
        ) from error


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    line = text[0] if text else type(error).__name__
    return line if len(line) <= 120 else line[:117] + "..."
