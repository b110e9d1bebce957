"""Kinds of values in a stranger's JSON, and the check of an object's fields against them."""

import keyword
import math
import re
import types
import typing
import unicodedata

import torch

from ..support.files import MOST_LEVELS
from .strict_json import need

LARGEST = 2**31  # what sizes may multiply to: elements that 32 bits can number
LARGEST_IMAGE = 2**28  # values
LARGEST_COUNT = 2**24  # levels, steps: whole numbers that float32 can count

_PATH = re.compile(r"[\w +=/:@-]+(\.[\w +=/:@-]+)*")  # what no literal in source is ended by

# -- kinds: functions of a value ---------------------------------------------------------------


def kind(*types: type):
    return lambda value: type(value) in types


def between(low: int, high: int):
    return lambda value: type(value) is int and low <= value <= high


def optional(fits):
    return lambda value: value is None or fits(value)


def list_of(fits):
    return lambda value: type(value) is list and all(map(fits, value))


def text(pattern: str):
    return lambda value: type(value) is str and bool(re.fullmatch(pattern, value))


def tagged(tag: str, inner: type):
    """{tag: value of a type}"""
    return lambda v: type(v) is dict and list(v) == [tag] and type(v[tag]) is inner


def is_name(value) -> bool:
    """A plain identifier: of the texts of a file, only these reach generated source."""
    plain = type(value) is str and value.isascii() and value.isidentifier()
    return plain and not keyword.iskeyword(value) and not value.startswith("__")


def is_path(value) -> bool:
    """Dotted names under which a module or a tensor may lie."""
    if type(value) is not str or len(value) > 1000 or not _PATH.fullmatch(value):
        return False
    if not unicodedata.is_normalized("NFKC", value):  # Python would read another name
        return False
    parts = value.split(".")
    private = any(part.startswith("__") or keyword.iskeyword(part) for part in parts)
    return len(parts) <= MOST_LEVELS and not private


def sizes_fit(numbers, largest: int = LARGEST) -> bool:
    """Whether the product of all numbers (of 1/x for x < 1), zeros and signs apart, is that small."""
    return sum(abs(math.log2(abs(n))) for n in numbers if n) <= math.log2(largest)


def is_image(value) -> bool:
    sizes = list_of(between(1, LARGEST))(value)
    return sizes and len(value) > 0 and sizes_fit(value, LARGEST_IMAGE)


def fits(value, hint) -> bool:
    """Whether a value is of an annotated type, such as `int | None`, `dict[str, float]`, `Tensor`."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is typing.Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is typing.Literal:
        return value in parts
    if origin is dict:
        return isinstance(value, dict) and all(
            fits(key, parts[0]) and fits(item, parts[1]) for key, item in value.items()
        )
    if origin in (list, tuple) or hint is torch.Size:
        kinds = [part for part in parts or (int,) if part is not ...]
        return isinstance(value, list if origin is list else (list, tuple)) and all(
            any(fits(item, one) for one in kinds) for item in value
        )
    if hint is bool:
        return isinstance(value, int) and value in (0, 1)
    kinds = (int, float) if hint is float else hint
    return isinstance(value, kinds) and not isinstance(value, bool)


# -- kinds in words -------------------------------------------------------------------------------


def one_of(names):
    return lambda value: type(value) is str and value in names, f"one of {', '.join(names)}"


TEXT = (kind(str), "a text")
WHOLE = (kind(int), "a whole number")
OBJECT = (kind(dict), "an object")
YES_OR_NO = (kind(bool), "true or false")
COUNT = (between(1, LARGEST_COUNT), f"a whole number from 1 to {LARGEST_COUNT}")
COUNT_OR_NULL = (optional(COUNT[0]), f"null or {COUNT[1]}")
NAME = (is_name, "a plain identifier")
SIZES = (list_of(between(0, LARGEST)), "a list of sizes")


def check_fields(where: str, content, fields: dict, others: bool = False) -> None:
    """ValueError unless an object holds these fields, each of its kind.

    Args:
        fields: {name: (function of the value, what it must be in words)}; a field whose name ends in
            "?" may be missing.
        others: more fields may be there.
    """
    need(type(content) is dict, f"{where} must be an object")
    known = set()
    for field, (fits, words) in fields.items():
        name = field.rstrip("?")
        known.add(name)
        if name in content:
            value = content[name]
            need(fits(value), f"{name} {{}} of {where} must be {words}", value)
        else:
            need(name != field, f"{where} has no {name}")
    unknown = sorted(content.keys() - known)
    need(others or not unknown, f"{where} holds the unknown {{}}", unknown)
