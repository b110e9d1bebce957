"""Files and folders that are either whole or not there: a temporary name first, then a rename."""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


class CannotWriteError(OSError):
    """A file or folder could not be written; what was there before is untouched."""

    def __init__(self, path: Path, error: OSError):
        remedy = (
            "free some space, or write elsewhere (--output)"
            if error.errno in _FULL
            else "choose a folder that you may write to (--output)"
        )
        super().__init__(
            error.errno,
            f"cannot write {path}: {error.strerror or error}; nothing there was changed; {remedy}",
        )

    def __str__(self) -> str:
        return self.strerror


def write_file(path: Path, content: bytes | bytearray | memoryview | str) -> None:
    """Write a file under a temporary name beside it, flush it to disk, then rename; text as UTF-8.

    Its folder is made if needed. If anything fails (disk full, no permission) an older file of
    that name stays as it was.

    Raises:
        CannotWriteError: the file could not be written.
    """
    path = Path(path)
    temporary = beside(path, "tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise CannotWriteError(path, error) from error


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary sibling to fill; renamed to `path` when the block ends well, else removed.

    A folder that is there already is replaced, and comes back if the rename fails.

    Raises:
        CannotWriteError: something in the block or the rename met an OSError.
    """
    path = Path(path)
    temporary = beside(path, "tmp")
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _replace_folder(temporary, path)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()  # only one that we made, and only while it is empty
        if isinstance(error, OSError) and not isinstance(error, CannotWriteError):
            raise CannotWriteError(path, error) from error
        raise


@contextlib.contextmanager
def new_files(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill; its files move into `folder` when the block ends well.

    Files of the same names are replaced, others stay. If the block fails `folder` is as before.

    Raises:
        CannotWriteError: something met an OSError.
    """
    folder = Path(folder)
    filled = beside(folder / "files", "new")
    try:
        with new_folder(filled) as temporary:
            yield temporary
        for file in sorted(path for path in filled.rglob("*") if path.is_file()):
            target = folder / file.relative_to(filled)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
    except OSError as error:
        raise CannotWriteError(folder, error.__cause__ or error) from error
    finally:
        shutil.rmtree(filled, ignore_errors=True)


def _replace_folder(new: Path, path: Path) -> None:
    old = beside(path, "old")
    if path.exists():
        os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        if old.exists():
            os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def beside(path: Path, what: str) -> Path:
    """A hidden name beside `path` that no other process chooses."""
    return path.with_name(f".{path.name[:100]}.{what}-{secrets.token_hex(8)}")
