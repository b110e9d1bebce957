"""IDX files (the format of MNIST and Fashion-MNIST), plain or gzipped."""

import gzip
import math
import os
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch

_UNSIGNED_BYTE = 8


def read_idx(path: Path) -> torch.Tensor:
    """The uint8 array in an IDX file; ValueError that names a damaged file."""
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as stream:
            content = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"file {str(path)!r} cannot be read: {error}; replace it") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE:
        raise ValueError(f"file {str(path)!r} is no IDX file of unsigned bytes; replace it")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    header = content[4:start].ljust(4 * dimensions, b"\xff")  # cut off: no such size follows
    shape = np.frombuffer(header, ">u4").tolist()
    if len(content) - start != math.prod(shape):
        raise ValueError(
            f"file {str(path)!r} is truncated or damaged: it holds {max(0, len(content) - start)} "
            f"bytes for the shape {shape}; replace it"
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).copy()).view(shape)


def unpack(source: Path, target: Path) -> Path:
    """Gunzip `source` to `target` once, complete or not at all; where the unpacked bytes are.

    A target folder that cannot be written is no obstacle: then the `.gz` file itself is read.
    """
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name)
    except OSError:
        return source
    try:
        with os.fdopen(handle, "wb") as plain, gzip.open(source) as packed:
            shutil.copyfileobj(packed, plain)
        os.replace(temporary, target)
    except (OSError, EOFError, zlib.error) as error:
        os.unlink(temporary)
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            return source
        raise ValueError(f"file {str(source)!r} is damaged: {error}; replace it") from error
    return target
