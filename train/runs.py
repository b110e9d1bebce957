"""Run folders: runs/NAME with its checkpoints and conversions, and which of them is meant."""

import contextlib
import os
from pathlib import Path

from ..support.atomic import CannotWriteError, beside, write_file
from ..support.files import read_text

LATEST = "latest"
_TRAIN_FIRST = "train one with python tools/train_qcfs.py --cfg swin_t_bn.yaml"


def claim_run_folder(root: Path, stem: str) -> Path:
    """Make and return root/stem, or stem-2, stem-3, ... if taken (safe against a second process).

    Raises:
        CannotWriteError: no permission, disk full.
    """
    root = Path(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            folder = root / (stem if number == 1 else f"{stem}-{number}")
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return folder
            number += 1
    except OSError as error:
        raise CannotWriteError(root / stem, error) from error


def runs_of(root: Path, stem: str) -> list[Path]:
    """The folders that `claim_run_folder` gave for `stem`, oldest first."""

    def number(folder: Path) -> int:
        rest = folder.name[len(stem) :]
        return 1 if not rest else int(rest[1:]) if rest[0] == "-" and rest[1:].isdecimal() else 0

    folders = [folder for folder in Path(root).glob(f"{stem}*") if folder.is_dir()]
    return sorted((folder for folder in folders if number(folder)), key=number)


def point_latest(folder: Path) -> None:
    """Let root/latest mean this run: a symbolic link, or a text file where links cannot be made.

    Both are put in place by one rename, so a reader finds the old or the new one, never none.
    """
    link = folder.parent / LATEST
    temporary = beside(link, "tmp")
    try:
        os.symlink(folder.name, temporary, target_is_directory=True)
        os.replace(temporary, link)
    except OSError:  # a file system without links
        with contextlib.suppress(OSError):
            temporary.unlink()
        write_file(link, folder.name + "\n")


def find_run(path: Path | None = None, root: Path = Path("runs")) -> Path:
    """The run that is meant: the given folder, or the latest one of `root`.

    Raises:
        ValueError: there is none; says what to do.
    """
    if path is not None:
        path = Path(path)
        if path.name == LATEST:
            return _latest(path.parent)
        if not path.is_dir():
            near = sorted(
                f.name
                for f in path.parent.glob("*")
                if f.is_dir() and f.name[0] != "." and f.name != LATEST
            )
            known = f"runs there: {', '.join(near)}" if near else _TRAIN_FIRST
            raise ValueError(f"there is no run folder {path}; {known}")
        return path
    return _latest(Path(root))


def _latest(root: Path) -> Path:
    link = root / LATEST
    if link.is_file():
        folder = root / read_text(link, "file", "give --run DIR", most=1000).strip()
    elif link.is_dir() or link.is_symlink():
        folder = root / os.readlink(link) if link.is_symlink() else link
    else:
        raise ValueError(f"there is no latest run in {root}/; {_TRAIN_FIRST}, or give --run DIR")
    if not folder.is_dir():
        raise ValueError(
            f"{link} points at {folder}, which is gone; give --run DIR or {_TRAIN_FIRST}"
        )
    return folder


def checkpoint_of(run: Path) -> Path:
    """The checkpoint of a run's last epoch; the held-out split never chooses one.

    Raises:
        ValueError: the run has none.
    """
    path = Path(run) / "checkpoints" / "last.pt"
    if not path.is_file():
        raise ValueError(
            f"run {run} has no checkpoint (checkpoints/last.pt): its training did not "
            f"finish an epoch, or it is no run folder; give another --run or "
            f"{_TRAIN_FIRST}"
        )
    return path


def conversions_of(run: Path) -> list[str]:
    """Tags of a run's conversions, oldest first."""
    files = [
        file
        for file in Path(run).glob("snn/*/conversion.json")
        if not file.parent.name.startswith(".")
    ]
    return [file.parent.name for file in sorted(files, key=lambda f: (f.stat().st_mtime_ns, f))]


def find_conversion(run: Path, tag: str | None = None) -> Path:
    """Folder of the conversion with this tag, or of the newest one.

    Raises:
        ValueError: there is none.
    """
    known = conversions_of(run)
    if not known:
        raise ValueError(
            f"run {run} has no conversion; make one with python tools/convert.py "
            f"--run {run} --T 128"
        )
    if tag is None:
        tag = known[-1]
    if tag not in known:
        raise ValueError(f"run {run} has no conversion {tag!r}; it has {', '.join(known)}")
    return Path(run) / "snn" / tag
