"""Folders: where a data set is looked for, and what is said when it is not there."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where files are unpacked and downloaded to: $SPIKESWAP_CACHE or ~/.cache/spikeswap."""
    given = os.environ.get("SPIKESWAP_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "spikeswap"


def given_folder(name: str, path, may_be_new: bool = False) -> Path | None:
    """The user's folder, or None for none; ValueError if it is missing or no folder."""
    if path is None or str(path) == "":
        return None
    folder = Path(path).expanduser()
    if not folder.exists():
        if may_be_new:
            return folder
        raise ValueError(f"data folder {str(path)!r} for {name} does not exist; check --data-path")
    if not folder.is_dir():
        raise ValueError(f"data path {str(path)!r} for {name} is a file, but must be a folder")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ValueError(f"data folder {str(path)!r} for {name} may not be read; mend its rights")
    return folder


def must_hold_something(name: str, folder: Path) -> None:
    """ValueError for an empty folder."""
    if not any(folder.iterdir()):
        raise ValueError(f"data folder {str(folder)!r} for {name} is empty; put the images there")
