"""Image files: which they are, whether they are whole, and how they are read."""

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff"}
SUFFIXES |= {".webp"}
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # Pillow's readers for them
_GREY_MODES = {"1", "L", "LA", "I", "I;16", "I;16B", "I;16L"}
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, UnidentifiedImageError)
_DAMAGE += (Image.DecompressionBombError,)
_TAIL_BYTES = 65536  # a whole JPEG has its end marker in here


def list_images(folder: Path) -> list[Path]:
    """Image files below a folder, by name; hidden files and other kinds are left out.

    Raises:
        ValueError: a name that is no text.
    """
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    images = sorted(path for path in found if not path.name.startswith(".") and path.is_file())
    for path in images:
        check_name(path)
    return images


def check_name(path: Path) -> None:
    """ValueError for a file or folder whose name is no UTF-8."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"the name {os.fsencode(path)!r} is no UTF-8; rename it") from None


def inspect_image(path: Path, decode: bool) -> tuple[bool, tuple[int, int]]:
    """(is grey, (width, height)) of a whole image; ValueError that names a corrupt file.

    Args:
        path: the file.
        decode: decode every pixel; otherwise headers, checksums and the end marker are checked.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            grey, size, kind, mode = (
                picture.mode in _GREY_MODES,
                picture.size,
                picture.format,
                picture.mode,
            )
            if decode:
                picture.load()
            else:
                picture.verify()
    except _DAMAGE as error:
        raise _corrupt(path, error) from error
    if mode == "F":
        raise ValueError(
            f"image {str(path)!r} holds floating-point pixels; save it with 8 or 16 bits"
        )
    if kind == "JPEG" and not _has_jpeg_end(path):
        raise _corrupt(path, "it ends before its last pixel")
    return grey, size


def read_image(path: Path, channels: int, upright: bool = True) -> Image.Image:
    """The image in a file as PIL "L" (`channels` 1) or "RGB" (3)."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            picture.load()
            if upright:
                picture = ImageOps.exif_transpose(picture)
            if picture.mode.startswith("I"):
                picture = _eight_bits(picture)
            return picture.convert("L" if channels == 1 else "RGB")
    except _DAMAGE as error:
        raise _corrupt(path, error) from error


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A 16-bit grey image with its upper 8 bits (PIL's own conversion cuts off at 255)."""
    pixels = np.asarray(picture)
    return Image.fromarray((pixels.clip(0, 65535) >> 8).astype(np.uint8))


def _has_jpeg_end(path: Path) -> bool:
    with open(path, "rb") as stream:
        stream.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return b"\xff\xd9" in stream.read()


def _corrupt(path: Path, reason) -> ValueError:
    reason = " ".join(str(reason).split()) or type(reason).__name__
    return ValueError(
        f"image {str(path)!r} is corrupt or no image ({reason}); replace or remove the file"
    )
