"""Files from strangers: regular ones only, no larger than they may be, no deeper than they should."""

import json
import os
import stat
from pathlib import Path
from typing import BinaryIO

from .messages import reason

MOST_TEXT = 64 * 2**20  # bytes of a JSON file
MOST_OBJECTS = 2_000_000  # in a file, with all that is shared written out
MOST_LEVELS = 64  # of containers within containers


def open_file(path, what: str, advice: str) -> BinaryIO:
    """A regular file, open for reading.

    Args:
        path: of the file, or of a link to it.
        what: it should be, for messages, such as "checkpoint".
        advice: what to do if it is not there.

    Raises:
        ValueError: missing, a folder, a pipe or device, not readable.
    """
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ValueError(f"{what} {path} is a folder; {advice}")
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{what} {path} is a pipe or a device, no file; {advice}")
        return open(path, "rb")
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"there is no {what} {path}; {advice}") from None
    except OSError as error:
        raise ValueError(
            f"{what} {path} cannot be read: {error.strerror or error}; check its permissions"
        ) from error


def size_of(stream: BinaryIO) -> int:
    """Bytes of an open file."""
    return os.fstat(stream.fileno()).st_size


def read_text(path, what: str, advice: str, most: int = MOST_TEXT) -> str:
    """The UTF-8 text of a regular file of at most `most` bytes.

    Raises:
        ValueError: as `open_file`, too large, or no text.
    """
    with open_file(path, what, advice) as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{what} {path} has more than {most / 2**20:g} MiB; {advice}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} {path} is no UTF-8 text; {advice}") from error


def read_json(path, what: str, advice: str):
    """The value in a JSON file; ValueError as `read_text`, or for what is no JSON."""
    text = read_text(path, what, advice)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} {path} is not JSON ({reason(error)}); {advice}") from error


def check_tree(value):
    """`value`, if its containers, written out, are few and not deep.

    Raises:
        ValueError: containers that hold each other over and over, or themselves.
    """
    waiting, count = [(value, 0)], 0
    while waiting:
        outer, depth = waiting.pop()
        if not isinstance(outer, (dict, list, tuple)):
            continue
        count += 1 + len(outer)
        if depth > MOST_LEVELS or count > MOST_OBJECTS:
            raise ValueError("its entries are nested without end")
        inner = outer.values() if isinstance(outer, dict) else outer
        waiting += [(item, depth + 1) for item in inner if isinstance(item, (dict, list, tuple))]
    return value
