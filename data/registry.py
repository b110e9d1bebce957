"""Names of data sets, and the one way to load one."""

from collections.abc import Sequence
from dataclasses import replace

from ..support.messages import near_names
from .bundle import DataBundle, Split
from .cifar import load_cifar10, load_cifar100
from .digits import load_fashion_mnist, load_mnist, load_mnist5k
from .fake import load_fake
from .folders import has_val_folder, load_imagefolder, load_imagenet
from .places import given_folder
from .splitting import check_fraction, stratified

LOADERS = {
    "mnist5k": load_mnist5k,
    "fashion_mnist": load_fashion_mnist,
    "mnist": load_mnist,
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "imagenet": load_imagenet,
    "imagefolder": load_imagefolder,
    "fake": load_fake,
}
LATER = ("action_recognition", "cifar10_dvs", "dvs128_gesture", "ncaltech101", "ncars")


def list_datasets() -> list[str]:
    """All names that `load_dataset` can load, sorted."""
    return sorted(LOADERS)


def load_dataset(
    name: str,
    path=None,
    img_size: int | None = None,
    in_chans: int | None = None,
    val_fraction: float = 0.0,
    seed: int = 0,
    download: bool = False,
    crop_pct: float = 0.0,
    interpolation: str = "bilinear",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    labels: bool = True,
) -> DataBundle:
    """Load a data set by name.

    Args:
        name: a name from `list_datasets()`.
        path: folder of the data (torchvision's ROOT for its sets); None: the set's own place.
        img_size: side of the square input in pixels; None or 0: as the data are.
        in_chans: channels of the input, 1 or 3; None or 0: as the data are.
        val_fraction: share of each class of the training split that is set apart as
            `bundle.select`, [0, 1). For an imagefolder without val/ it makes the reported split
            instead (0 means 0.2 there).
        seed: of that share. Official and embedded splits never change with it.
        download: fetch missing files; without it nothing is ever fetched.
        crop_pct: of image files, the share of the resized side that is cut out for evaluation
            (1: the shorter side becomes `img_size`); 0: the set's own (0.875 on ImageNet).
        interpolation: with `crop_pct`, how files are resized for evaluation.
        mean, std: of each channel, for pixels in [0, 1]; None: the set's own.
        labels: False: an imagefolder may be a folder of images without class folders, too.

    Raises:
        ValueError: unknown name, missing or damaged files, impossible values.
    """
    if name in LATER:
        raise ValueError(f"data set {name!r} (event camera) comes with a later release")
    if name not in LOADERS:
        raise ValueError(f"unknown data set {name!r}; {near_names(name, LOADERS)}")
    fraction = check_fraction(val_fraction)
    folder = given_folder(name, path, may_be_new=download)
    arguments = (folder, img_size, in_chans, download)
    if name == "imagefolder":
        bundle = load_imagefolder(*arguments, val_fraction=fraction, seed=seed, labels=labels)
        fraction = fraction if has_val_folder(folder) else 0.0
    else:
        bundle = LOADERS[name](*arguments)
    if crop_pct:
        for split in (bundle.train, bundle.val):
            if not split.source.in_memory:
                split.source.resize_ratio = 1 / crop_pct
                split.source.interpolation = interpolation
    if mean is not None and std is not None:
        for split in (bundle.train, bundle.val):
            split.preparation = replace(split.preparation, mean=tuple(mean), std=tuple(std))
    return _with_select(bundle, fraction, seed) if fraction else bundle


def _with_select(bundle: DataBundle, fraction: float, seed: int) -> DataBundle:
    train = bundle.train
    rest, part = stratified(train.labels, fraction, seed)
    splits = [
        Split(train.source, train.indices[which], train.preparation) for which in (rest, part)
    ]
    note = f"{bundle.note}; {len(part):,} training images set apart to choose a checkpoint"
    return replace(bundle, train=splits[0], select=splits[1], note=note)
