"""frontier.json, written by tools/frontier.py and read for the report."""

import json
from pathlib import Path

from ..report import fits_figure
from ..support.files import read_json

NAME = "frontier.json"
SCHEMA = 1
_ADVICE = "run tools/frontier.py again"


def write_frontier(content: dict, folder: Path) -> None:
    """Write what a search found; `read_frontier` gives it back."""
    (folder / NAME).write_text(json.dumps({"schema": SCHEMA, **content}, indent=1))


def read_frontier(folder: Path) -> dict | None:
    """What was found for the run in `folder`; None if nothing was searched.

    Raises:
        ValueError: a file that is damaged or of another version; names it and the next step.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    content = read_json(path, "frontier", _ADVICE)
    if type(content) is not dict or content.get("schema") != SCHEMA:
        raise ValueError(f"{path} is no frontier of this version; {_ADVICE}")
    if not fits_figure(content):
        raise ValueError(f"{path} is damaged; {_ADVICE}")
    return content
