"""Folders of class folders: a user's own images, and ImageNet."""

import logging
import pickle
from pathlib import Path

from .bundle import DataBundle, Split
from .files import SUFFIXES, check_name, inspect_image, list_images
from .places import cache_folder, must_hold_something
from .preparation import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preparation,
    check_img_size,
    check_in_chans,
)
from .randomness import name_order
from .sources import FileImages
from .splitting import part_size

GREY_STATISTICS = (0.449,), (0.226,)  # means of ImageNet's three channels
IMAGENET_SIZE = 224  # pixels
IMAGENET_CLASSES = 1000
IMAGENET_RESIZE = 8 / 7  # 256 for 224: shorter side before the centre is cut, as published
DEFAULT_FRACTION = 0.2  # share held out where there is no val/ folder
UNLABELLED = "(no labels)"  # the class of a folder without class folders
DECODE_LIMIT = 32 * 2**20  # bytes: folders up to here are decoded once at loading, to be sure
_log = logging.getLogger(__name__)


def load_imagefolder(
    folder, img_size, in_chans, download, val_fraction=0.0, seed=0, labels=True
) -> DataBundle:
    """A user's own class folders; grey or colour, any sizes, each class a folder of images.

    With `train/` and `val/` those are the splits. Without `val/`, `val_fraction` (default 0.2) of
    each class is held out, chosen by file name: images that are added later move no other image.
    Unless `labels`, a folder of images without class folders is taken, too: one class "(no labels)".
    Every image is checked before anything else happens. The shorter side is resized to
    `img_size` and the centre is cut.
    """
    if folder is None:
        raise ValueError("imagefolder needs the folder of your images; say --data-path DIR")
    must_hold_something("imagefolder", folder)
    root = folder / "train" if (folder / "train").is_dir() else folder
    flat = not labels and _is_flat(root)
    class_names = [UNLABELLED] if flat else _class_names(root)
    train = [(path, 0) for path in list_images(root)] if flat else _listed(root, class_names)
    split_by_name = not has_val_folder(folder)
    if split_by_name:
        train, val = _held_out(root, train, val_fraction or DEFAULT_FRACTION, seed)
    else:
        val = _listed(folder / "val", _val_classes(folder / "val", class_names), class_names)
    grey, native = _inspect([path for path, _ in train + val])
    channels = 1 if grey else 3
    size = check_img_size(img_size, native)
    prep = Preparation(size, check_in_chans(in_chans, channels), *_statistics(channels))
    parts = [_split(part, root, channels, size, prep, 1.0, True) for part in (train, val)]
    how = "held out by file name" if split_by_name else "in the folder's own val/"
    large, count = size >= 128, f"{len(train):,} training images, {len(val):,} {how}"
    return DataBundle(
        name="imagefolder",
        train=parts[0],
        val=parts[1],
        num_classes=len(class_names),
        in_chans=prep.in_chans,
        img_size=size,
        class_names=class_names,
        note=f"{'images without labels' if flat else 'class folders'} in {folder.name!r}: {count}",
        default_augment="digits" if grey else "imagenet" if large else "crop-flip",
    )


def _is_flat(root: Path) -> bool:
    """Whether images lie in a folder itself, and none in folders inside."""
    entries = [path for path in root.iterdir() if not path.name.startswith(".")]
    images = any(p.suffix.lower() in SUFFIXES for p in entries if p.is_file())
    return images and not any(path.is_dir() for path in entries)


def has_val_folder(folder: Path) -> bool:
    """Whether a folder brings its own reported split: `train/` and `val/`."""
    return (folder / "train").is_dir() and (folder / "val").is_dir()


def load_imagenet(folder, img_size, in_chans, download) -> DataBundle:
    """ImageNet-1k: `train/` and `val/` with 1,000 class folders each, or the official archives."""
    if download:
        raise ValueError(
            "imagenet cannot be downloaded; get it from image-net.org, say --data-path"
        )
    root = folder or cache_folder() / "imagenet"
    _unpack_archives(root)
    for part in ("train", "val"):
        if not (root / part).is_dir():
            raise ValueError(
                f"data set imagenet not found: no {part}/ in {str(root)!r}; give the folder that "
                "holds train/ and val/ (or the official .tar archives) as --data-path"
            )
    class_names = _class_names(root / "train")
    if len(class_names) != IMAGENET_CLASSES:
        raise ValueError(
            f"{str(root / 'train')!r} holds {len(class_names)} class folders, ImageNet has "
            f"{IMAGENET_CLASSES}; use --data imagefolder for a subset"
        )
    listed = [_listed(root / "train", class_names)]
    listed.append(_listed(root / "val", _val_classes(root / "val", class_names), class_names))
    size = check_img_size(img_size, IMAGENET_SIZE)
    prep = Preparation(size, check_in_chans(in_chans, 3), IMAGENET_MEAN, IMAGENET_STD)
    train, val = (_split(part, root, 3, size, prep, IMAGENET_RESIZE, False) for part in listed)
    return DataBundle(
        name="imagenet",
        train=train,
        val=val,
        num_classes=IMAGENET_CLASSES,
        in_chans=prep.in_chans,
        img_size=size,
        class_names=class_names,
        note=f"ImageNet-1k: {len(train):,} training and {len(val):,} validation images",
        default_augment="imagenet",
    )


def _class_names(folder: Path) -> list[str]:
    paths = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    for path in paths:
        check_name(path)
    names = sorted(path.name for path in paths)
    if len(names) < 2:
        raise ValueError(
            f"data folder {str(folder)!r} holds {len(names)} class folders, but needs two or more; "
            "put the images of each class into a folder of its own"
        )
    return names


def _val_classes(folder: Path, class_names: list[str]) -> list[str]:
    names = _class_names(folder)
    unknown = [name for name in names if name not in class_names]
    if unknown:
        raise ValueError(
            f"class folder {str(folder / unknown[0])!r} has no counterpart in train/; "
            f"classes there: {', '.join(class_names[:8])}{' ...' if len(class_names) > 8 else ''}"
        )
    absent = sorted(set(class_names) - set(names))
    if absent:
        _log.warning("no val/ folder for %d classes: %s", len(absent), ", ".join(absent[:8]))
    return names


def _listed(folder: Path, names: list[str], class_names: list[str] | None = None) -> list[tuple]:
    """(path, label) of every image; ValueError for a class folder without any."""
    numbers = {name: number for number, name in enumerate(class_names or names)}
    found = []
    for name in names:
        images = list_images(folder / name)
        if not images:
            raise ValueError(
                f"class folder {str(folder / name)!r} holds no images "
                f"({', '.join(sorted(SUFFIXES))}); fill or remove it"
            )
        found += [(path, numbers[name]) for path in images]
    return found


def _held_out(root: Path, listed: list[tuple], fraction: float, seed: int) -> tuple[list, list]:
    """(training, held-out) images: a share of each class, chosen by file name."""
    rest, part = [], []
    for number in sorted({label for _, label in listed}):
        members = [item for item in listed if item[1] == number]
        if len(members) < 2:
            raise ValueError(
                f"class folder {str(members[0][0].parent)!r} holds one image, too few to hold one "
                "out; add images or make train/ and val/ folders"
            )
        order = name_order([path.relative_to(root).as_posix() for path, _ in members], seed)
        count = part_size(len(members), fraction)
        part += [members[i] for i in order[:count]]
        rest += [members[i] for i in order[count:]]
    return rest, part


def _inspect(paths: list[Path]) -> tuple[bool, int]:
    """(all are grey, natural side in pixels) of images that are all whole."""
    decode = sum(path.stat().st_size for path in paths) <= DECODE_LIMIT
    seen = [inspect_image(path, decode) for path in paths]
    sides = {side for _, size in seen for side in size}
    return all(grey for grey, _ in seen), sides.pop() if len(sides) == 1 else IMAGENET_SIZE


def _statistics(channels: int) -> tuple:
    return GREY_STATISTICS if channels == 1 else (IMAGENET_MEAN, IMAGENET_STD)


def _split(listed, root, channels, size, preparation, resize_ratio, upright) -> Split:
    """A split in an order by the hash of the file names: its first images are of all classes."""
    base = root.parent if root.name == "train" else root
    names = [_name_below(path, base) for path, _ in listed]
    listed = [listed[i] for i in name_order(names)]
    paths, labels = [path for path, _ in listed], [label for _, label in listed]
    source = FileImages(paths, labels, channels, size, resize_ratio, upright)
    return Split(source, None, preparation)


def _name_below(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix()


def _unpack_archives(root: Path) -> None:
    """Let torchvision unpack the official archives, if it is they that lie there."""
    if not (root / "ILSVRC2012_devkit_t12.tar.gz").is_file():
        return
    from torchvision.datasets import ImageNet

    try:
        for part in ("train", "val"):
            if not (root / part).is_dir():
                ImageNet(str(root), split=part)
    except (RuntimeError, pickle.UnpicklingError) as error:  # the latter: a foreign meta.bin
        raise ValueError(f"ImageNet's archives in {str(root)!r} are incomplete: {error}") from error
