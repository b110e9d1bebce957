"""IDX files (the format of MNIST and Fashion-MNIST), plain or gzipped."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch

from ..support.atomic import CannotWriteError, write_file
from ..support.files import open_file, size_of

_UNSIGNED_BYTE = 8
_MOST_PACKED = 1040  # bytes that deflate can make of one


def read_idx(path: Path) -> torch.Tensor:
    """The uint8 array in an IDX file; ValueError that names a damaged file."""
    _, shape, content = _parts(path)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).view(shape)


def unpack(source: Path, target: Path) -> Path:
    """Gunzip `source` to `target` once, complete or not at all; where the unpacked bytes are.

    A target folder that cannot be written is no obstacle: then the `.gz` file itself is read.
    """
    if target.is_file():
        return target
    header, _, content = _parts(source)
    try:
        write_file(target, header + content)
    except CannotWriteError:
        return source
    return target


def _parts(path: Path) -> tuple[bytes, list[int], bytes]:
    """Header, shape and elements; no more is unpacked than the header announces."""
    try:
        with open_file(path, "file", "put it back") as packed:
            stream = gzip.open(packed) if path.suffix == ".gz" else packed
            header = stream.read(4)
            if len(header) < 4 or header[:2] != b"\0\0" or header[2] != _UNSIGNED_BYTE:
                raise ValueError(f"file {str(path)!r} is no IDX file of unsigned bytes; replace it")
            sizes = stream.read(4 * header[3])
            shape = np.frombuffer(sizes.ljust(4 * header[3], b"\xff"), ">u4").tolist()
            announced = math.prod(shape)
            possible = announced <= _MOST_PACKED * size_of(
                packed
            )  # else the header is cut off, or lies
            content = stream.read(announced + 1) if possible else b""
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"file {str(path)!r} cannot be read: {error}; replace it") from error
    if len(content) != announced:
        held = f"{len(content):,}" if len(content) < announced else "more"
        raise ValueError(
            f"file {str(path)!r} is truncated or damaged: it holds {held} bytes for the shape "
            f"{shape[:8]}; replace it"
        )
    return header + sizes, shape, content
