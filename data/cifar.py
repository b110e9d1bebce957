"""CIFAR-10 and CIFAR-100 as torchvision reads them."""

import torch

from .bundle import DataBundle, Split
from .download import downloaded
from .places import cache_folder
from .preparation import Preparation, check_img_size, check_in_chans
from .sources import MemoryImages

NATIVE_SIZE = 32  # pixels
STATISTICS = {  # mean and standard deviation of the training images, pixels in [0, 1]
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


def load_cifar10(folder, img_size, in_chans, download) -> DataBundle:
    """CIFAR-10, 50,000 and 10,000 images."""
    return _load("cifar10", "CIFAR10", folder, img_size, in_chans, download)


def load_cifar100(folder, img_size, in_chans, download) -> DataBundle:
    """CIFAR-100, 50,000 and 10,000 images."""
    return _load("cifar100", "CIFAR100", folder, img_size, in_chans, download)


def _load(name, class_name, folder, img_size, in_chans, download) -> DataBundle:
    size, channels = check_img_size(img_size, NATIVE_SIZE), check_in_chans(in_chans, 3)
    preparation = Preparation(size, channels, *STATISTICS[name])
    parts = _parts(name, class_name, folder, download)
    train, val = (Split(_source(part), None, preparation) for part in parts)
    return DataBundle(
        name=name,
        train=train,
        val=val,
        num_classes=len(parts[0].classes),
        in_chans=channels,
        img_size=size,
        class_names=list(parts[0].classes),
        note=f"{name}: {len(train):,} training and {len(val):,} test images, the official split",
        default_augment="crop-flip",
    )


def _parts(name, class_name, folder, download) -> list:
    import torchvision

    kind = getattr(torchvision.datasets, class_name)
    root = folder or cache_folder()
    if root.name == kind.base_folder:
        root = root.parent
    if download:
        return downloaded(name, class_name, root)
    try:
        return [kind(str(root), train=train) for train in (True, False)]
    except RuntimeError as error:
        raise ValueError(
            f"data set {name} not found or damaged in {str(root / kind.base_folder)!r}; put the "
            f"unpacked python version there, give its parent as --data-path, or say --download"
        ) from error


def _source(part) -> MemoryImages:
    images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
    return MemoryImages(images, torch.tensor(part.targets))
