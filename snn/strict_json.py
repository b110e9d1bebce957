"""JSON of strangers: no key twice, no number without bounds, nothing deep, no file without end."""

import json
import math
from pathlib import Path

from ..support.files import MOST_LEVELS, read_text
from ..support.messages import reason, shown

LARGEST_FILE = 16 * 2**20  # bytes; the description of a network of 1,700 nodes has 0.9 * 2**20
_TOO_DEEP = f"lists lie more than {MOST_LEVELS} deep in each other"


def need(true, what: str, *values) -> None:
    """ValueError that says what is wrong, unless it is true; `{}` in it shows a stranger's value."""
    if not true:
        raise ValueError(what.format(*map(shown, values)))


def read_json(path: Path, what: str, advice: str):
    """What a regular JSON file of at most `LARGEST_FILE` bytes holds; a ValueError names the file."""
    text = read_text(path, what, advice, LARGEST_FILE)
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{what} {path} is damaged ({reason(error)}); {advice}") from error


def parse(text: str):
    """JSON in Unicode, without a key twice, NaN, numbers beyond 64 bits, more than `MOST_LEVELS` levels.

    ValueError for any other.
    """
    try:
        content = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=lambda digits: _finite(float(digits)),
            parse_constant=lambda name: _finite(float(name)),
        )
        if "\\u" in text:  # half of a pair, which no file or hash takes
            json.dumps(content, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level, depth = [[content]], 0
    while level:
        need(depth <= MOST_LEVELS, _TOO_DEEP)
        inside = (v for outer in level for v in (outer.values() if type(outer) is dict else outer))
        level, depth = [v for v in inside if type(v) in (dict, list)], depth + 1
    return content


def _object(pairs: list[tuple]) -> dict:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {shown(twice)} stands twice in one object")
    return content


def _whole(digits: str) -> int:
    fits = len(digits) <= 20 and -(2**63) <= int(digits) < 2**63
    need(fits, "the number {} does not fit into 64 bits", digits)
    return int(digits)


def _finite(number: float) -> float:
    need(math.isfinite(number), "a number is not finite")
    return number
