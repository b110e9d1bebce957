"""Put values into a config: known keys only, each value of its key's type."""

import os
import re

from yacs.config import CfgNode

from ..support.messages import near_names
from .files import parse_yaml

_TYPE_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
}

_LEADING_ZERO = re.compile(r"0\d+")  # `0011` is a word of digits, never an octal number
_EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")  # `1e-3`: text in YAML 1.1


def merge_mapping(cfg: CfgNode, mapping: dict, where: str) -> None:
    """Merge a nested mapping (a recipe) into `cfg` in place; `where` names it in errors."""
    for group, values in mapping.items():
        node = cfg.get(group)
        if node is None:
            raise ValueError(f"unknown key {group!r} in {where}; {near_names(group, _dotted(cfg))}")
        if not isinstance(values, dict):
            raise ValueError(f"{group} in {where} is {values!r}, but must hold KEY: VALUE lines")
        for name, value in values.items():
            _assign(cfg, f"{group}.{name}", value, where)


def set_key(cfg: CfgNode, key: str, value) -> None:
    """Set one dotted key in place, as `--set KEY VALUE`; text is parsed as YAML."""
    if isinstance(value, str):
        value = parse_text(value)
    _assign(cfg, str(key), value, "--set")


def parse_text(text: str):
    """A command-line word as a value: `3e-3` -> float, `[2, 2]` -> list, `none`, `0011` -> text."""
    if _LEADING_ZERO.fullmatch(text):
        return text
    try:
        value = parse_yaml(text)
    except ValueError:
        return text
    return text if value is None and text.strip() not in ("null", "~") else value


def _assign(cfg: CfgNode, key: str, value, where: str) -> None:
    group, _, rest = key.partition(".")
    name, _, inner = rest.partition(".")
    node = cfg.get(group)
    if not isinstance(node, CfgNode) or name not in node:
        raise ValueError(f"unknown key {key!r} in {where}; {near_names(key, _dotted(cfg))}")
    old = node[name]
    if isinstance(old, CfgNode):  # a free node: MODEL.OVERRIDES
        if inner:
            old[inner] = _plain(value, key, where)
        elif isinstance(value, dict):
            for argument, argument_value in value.items():
                old[str(argument)] = _plain(argument_value, f"{key}.{argument}", where)
        else:
            raise ValueError(
                f"{key} in {where} is {value!r}, but must be a mapping such as {{depths: [2, 2]}}"
            )
        return
    if inner:
        raise ValueError(f"unknown key {key!r} in {where}; did you mean {group}.{name}?")
    node[name] = coerce(value, type(old), key, where)


def coerce(value, kind: type, key: str, where: str):
    """`value` as `kind`, where that loses nothing; else ValueError with key and both types."""
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 3e-3 as text
        try:
            value = float(value)
        except ValueError:
            pass
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if kind is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)  # a folder called 2024
    if kind is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if kind is list and isinstance(value, tuple):
        value = list(value)
    if type(value) is not kind:
        raise ValueError(f"{key} in {where} is {value!r}, but must be {_TYPE_NAMES[kind]}")
    return value


def _plain(value, key: str, where: str):
    """A free value: numbers, text, lists and mappings of those; `1e-3` read as a number."""
    if isinstance(value, dict):
        node = CfgNode(new_allowed=True)
        for name, inner in value.items():
            node[str(name)] = _plain(inner, f"{key}.{name}", where)
        return node
    if isinstance(value, (list, tuple)):
        return [_plain(item, key, where) for item in value]
    if isinstance(value, str):
        return float(value) if _EXPONENT.fullmatch(value) else value
    if value is None or isinstance(value, (bool, int, float)):
        return value
    raise ValueError(
        f"{key} in {where} is a {type(value).__name__}; give a number, text, list or mapping"
    )


def _dotted(cfg: CfgNode) -> list[str]:
    return [f"{group}.{name}" for group, node in cfg.items() for name in node]
