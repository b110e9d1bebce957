"""The one reader of weight files: PyTorch's zip and its older format, and safetensors.

No file is trusted: nothing in it runs, and nothing is allocated that it does not hold.
"""

import io
import struct
import sys
import zipfile
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from .files import open_file, size_of
from .messages import reason
from .tensor_pickle import read_pickle

SAVE = "save one with torch.save(model.state_dict(), PATH)"
MOST_PICKLE = 64 * 2**20  # bytes before the tensors of a file in the older format
_MAGIC_NUMBER, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of torch.save before 1.6
_ONNX = "an ONNX model", f"load the PyTorch model that it was exported from and {SAVE}"
_OTHERS = {  # how files of other kinds begin: what they are, what to do
    b"\x89HDF": ("an HDF5 file (Keras)", f"copy its weights into a PyTorch model and {SAVE}"),
    b"\x1f\x8b": ("packed with gzip", "unpack it first"),
    b"version https://git-lfs": ("a Git LFS pointer, not the weights", "fetch them: git lfs pull"),
    b"<": ("a web page, not the weights", "download the file itself"),
}
_DAMAGE = (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError)
_DAMAGE += (ValueError, TypeError, LookupError, AttributeError, OverflowError, struct.error)


class _Refused(Exception):
    """A whole file of a kind that is not read; its text follows "checkpoint PATH is"."""


def read_checkpoint(path):
    """What a weight file holds, on the CPU; objects that are neither plain nor tensors are empty.

    Raises:
        ValueError: no such file, or none that can be read; names it, says why and what to do.
    """
    path = Path(path)
    with open_file(path, "checkpoint", "give the path of a weight file") as stream:
        head = stream.read(300)
        stream.seek(0)
        try:
            return _reader(path, head)(stream)
        except OSError as error:
            why = error.strerror or reason(error)
            raise ValueError(f"checkpoint {path} cannot be read: {why}; copy it again") from error
        except _Refused as error:
            raise ValueError(f"checkpoint {path} is {error}") from error
        except _DAMAGE as error:
            raise ValueError(
                f"{path} is no readable checkpoint: it is truncated, corrupt or another kind of file "
                f"({reason(error)}); copy it again, or {SAVE}"
            ) from error


def _reader(path: Path, head: bytes):
    """The function that reads a file which begins so."""
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return _read_safetensors
    if head[:4] == b"PK\x03\x04":
        return _read_zip
    onnx = path.suffix == ".onnx" or head[:1] == b"\x08" and head[2:3] == b"\x12"
    if not head:
        raise _Refused("empty; copy it again")
    kinds = [kind for start, kind in _OTHERS.items() if head.startswith(start)] + [_ONNX] * onnx
    if head[257:262] == b"ustar":
        kinds.append(("a tar archive", f"unpack it, or load it with its own PyTorch and {SAVE}"))
    if kinds:
        raise _Refused("{}; {}".format(*kinds[0]))
    return _read_legacy


def _read_safetensors(stream: BinaryIO) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(stream.name)
    except SafetensorError as error:
        raise ValueError(f"no readable safetensors: {error}") from error


def _read_zip(stream: BinaryIO):
    """A file of torch.save since 1.6: an uncompressed zip of a pickle and an entry per storage."""
    with zipfile.ZipFile(stream) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        _check_entries(archive.infolist(), size_of(stream))
        pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise _Refused(f"a zip archive without weights of PyTorch (no data.pkl); {SAVE}")
        root = pickles[0].removesuffix("data.pkl")
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in entries else b"little"
        if order.decode() != sys.byteorder:
            raise _Refused(f"of a machine with another byte order; load it there and {SAVE}")
        storages = {}

        def storage(key: str, count: int, dtype: torch.dtype) -> torch.UntypedStorage:
            entry = entries[f"{root}data/{key}"]
            if entry.file_size != count * dtype.itemsize:
                raise ValueError(
                    f"storage {key[:20]!r} claims {count:,} elements in {entry.file_size:,} bytes"
                )
            if key not in storages:
                storages[key] = _storage(bytearray(archive.read(entry)))
            return storages[key]

        return read_pickle(io.BytesIO(archive.read(pickles[0])), storage)


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse programs and what would unpack to more than the `size` bytes of the file."""
    if any(e.filename.endswith("/constants.pkl") or "/code/" in e.filename for e in entries):
        raise _Refused(
            "a TorchScript archive, which is a program; save its weights alone with "
            "torch.save(model.state_dict(), PATH)"
        )
    packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise _Refused(f"compressed ({packed[0][:60]!r}), which torch.save never does; {SAVE}")
    if sum(max(entry.file_size, entry.compress_size) for entry in entries) > size:
        raise _Refused(f"a zip archive that claims to hold more than its {size:,} bytes; {SAVE}")


def _read_legacy(stream: BinaryIO):
    """A file of torch.save before 1.6: five pickles, then count and elements of each storage."""
    pickles = io.BytesIO(stream.read(MOST_PICKLE))
    if read_pickle(pickles, _no_storage) != _MAGIC_NUMBER:
        raise _Refused(f"a pickle that torch.save did not write; load it and {SAVE}")
    if read_pickle(pickles, _no_storage) != _PROTOCOL:
        raise ValueError(f"its protocol is not {_PROTOCOL}")
    read_pickle(pickles, _no_storage)  # about the machine that wrote it
    claims, left = {}, size_of(stream)

    def storage(key: str, count: int, dtype: torch.dtype) -> torch.UntypedStorage:
        nonlocal left
        if key not in claims:
            left -= count * dtype.itemsize
            if left < 0:
                raise ValueError(
                    f"storage {key[:20]!r} claims {count:,} elements, more than follow"
                )
            buffer = bytearray(count * dtype.itemsize)
            claims[key] = (count, dtype), buffer, _storage(buffer)
        if claims[key][0] != (count, dtype):
            raise ValueError(f"storage {key[:20]!r} is claimed with two sizes")
        return claims[key][2]

    content = read_pickle(pickles, storage)
    keys = read_pickle(pickles, _no_storage)
    stream.seek(pickles.tell())
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(claims):
        raise ValueError("it does not list the storages of its tensors")
    for key in keys:
        (count, _), buffer, _ = claims[key]
        if struct.unpack("<q", stream.read(8))[0] != count or stream.readinto(buffer) < len(buffer):
            raise ValueError(f"storage {key[:20]!r} is cut off")
    return content


def _no_storage(key: str, count: int, dtype: torch.dtype):
    raise ValueError("a tensor stands where none belongs")


def _storage(buffer: bytearray) -> torch.UntypedStorage:
    """The buffer's own bytes as a storage."""
    if not buffer:
        return torch.UntypedStorage(0)
    return torch.frombuffer(buffer, dtype=torch.uint8).untyped_storage()
