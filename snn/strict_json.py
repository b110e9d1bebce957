"""Reads JSON that may come from a stranger: no pipe, no end of memory, no number without bounds."""

import json
import math
import reprlib
import stat
from pathlib import Path

LARGEST_FILE = 16 * 2**20  # bytes; the description of a network of 1,700 nodes has 0.9 * 2**20
DEEPEST = 64  # lists and objects inside each other


def need(true, what: str, *values) -> None:
    """ValueError that says what is wrong, unless it is true; `{}` in it shows a stranger's value."""
    if not true:
        raise ValueError(what.format(*map(shown, values)))


def shown(value) -> str:
    """A stranger's value in a message: one short piece of ASCII."""
    text = reprlib.repr(value).encode("ascii", "backslashreplace").decode()
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_regular(path: Path, largest: float = math.inf) -> None:
    """ValueError unless `path` is a regular file, or a link to one, of at most `largest` bytes."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise ValueError("does not exist") from None
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error
    need(stat.S_ISREG(status.st_mode), "is no regular file but a folder, pipe or device")
    need(status.st_size <= largest, "has {} bytes, of which {} are read", status.st_size, largest)


def read_json(path: Path):
    """What a JSON file holds; a ValueError says what is wrong with the file, which it does not name."""
    check_regular(path, LARGEST_FILE)
    try:
        return parse(path.read_bytes().decode())
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"is damaged ({error.reason} at byte {error.start})") from error


def parse(text: str):
    """JSON without a key twice, NaN, numbers beyond 64 bits or more than `DEEPEST` levels."""
    too_deep = f"holds lists more than {DEEPEST} deep in each other"
    try:
        content = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=lambda digits: _finite(float(digits)),
            parse_constant=lambda name: _finite(float(name)),
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"is damaged ({error})") from error
    except RecursionError:
        raise ValueError(too_deep) from None
    level, depth = [[content]], 0
    while level:
        need(depth <= DEEPEST, too_deep)
        inside = (v for outer in level for v in (outer.values() if type(outer) is dict else outer))
        level, depth = [v for v in inside if type(v) in (dict, list)], depth + 1
    return content


def _object(pairs: list[tuple]) -> dict:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"holds the key {shown(twice)} twice in one object")
    return content


def _whole(digits: str) -> int:
    fits = len(digits) <= 20 and -(2**63) <= int(digits) < 2**63
    need(fits, "holds the number {}, which does not fit into 64 bits", digits)
    return int(digits)


def _finite(number: float) -> float:
    need(math.isfinite(number), "holds a number that is not finite")
    return number
