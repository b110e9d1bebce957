"""metrics.jsonl, the lines that a training writes: one an epoch and split."""

import json
from pathlib import Path

from .files import read_text
from .messages import reason

FIELDS = ("epoch", "split", "loss", "top1", "top5", "learning_rate", "seconds")


def read_metrics(path: Path) -> list[dict]:
    """All lines of a metrics.jsonl; no file gives no lines, a half-written last line is left out.

    Raises:
        ValueError: no regular file, or a line in the middle that is none of a training.
    """
    path = Path(path)
    if not path.exists():
        return []
    lines = read_text(path, "metrics file", "restore or remove it").rstrip("\n").split("\n")
    result = []
    for number, text in enumerate(lines, 1):
        try:
            result.append(_line(text))
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                break
            raise ValueError(
                f"line {number} of {path} is no metrics line ({reason(error)}); restore the "
                "file or remove it"
            ) from error
    return result


def _line(text: str) -> dict:
    line = json.loads(text)
    if not isinstance(line, dict) or type(line.get("epoch")) is not int:
        raise ValueError("no epoch")
    if not isinstance(line.get("split"), str):
        raise ValueError("no split")
    for field in FIELDS[2:]:
        if line.get(field) is not None and type(line[field]) not in (int, float):
            raise ValueError(f"{field} is no number")
    return line
