"""Names, sizes, channels, fractions: what is known, and what is said about the rest."""

import pickle

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from spikeswap.data import folders, list_datasets, load_dataset


def test_names():
    assert {"mnist5k", "fashion_mnist", "imagefolder", "fake", "imagenet"} <= set(list_datasets())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "mnist5"}, "unknown data set 'mnist5'; did you mean mnist5k"),
        ({"name": "zzzz"}, "known: mnist5k"),
        ({"name": "ncars"}, "comes with a later release"),
        ({"name": "fake", "img_size": -1}, "img_size is -1"),
        ({"name": "fake", "img_size": 32.5}, "img_size is 32.5"),
        ({"name": "fake", "in_chans": 2}, "in_chans is 2"),
        ({"name": "fake", "val_fraction": 1.0}, "val_fraction is 1.0"),
        ({"name": "fake", "val_fraction": float("nan")}, "val_fraction is nan"),
        ({"name": "fake", "path": "no/such/folder"}, "does not exist"),
        ({"name": "imagenet", "download": True}, "cannot be downloaded"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError) as caught:
        load_dataset(**arguments)
    assert message in str(caught.value)


def test_zero_means_as_the_data_are():
    bundle = load_dataset("fake", img_size=0, in_chans=0)
    assert (bundle.img_size, bundle.in_chans) == (32, 3)


def test_fake_is_learnable_repeatable_and_says_what_it_is():
    bundle, again = load_dataset("fake"), load_dataset("fake")
    images, labels = next(iter(bundle.eval_loader(64)))
    assert torch.equal(images, next(iter(again.eval_loader(64)))[0])
    means = torch.stack([images[labels == label].mean(0) for label in range(10)])
    nearest = torch.cdist(images.flatten(1), means.flatten(1)).argmin(1)
    assert (nearest == labels).float().mean() > 0.95
    assert "smoke tests only" in bundle.note


def test_colour_becomes_grey():
    bundle = load_dataset("fake", in_chans=1, img_size=16)
    assert bundle.val[0][0].shape == (1, 16, 16)


@pytest.mark.parametrize(("name", "class_name"), [("cifar10", "CIFAR10"), ("cifar100", "CIFAR100")])
def test_cifar_in_its_true_format(tmp_path, monkeypatch, name, class_name):
    kind = getattr(torchvision.datasets, class_name)
    classes = int(name[5:])
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    key, meta_key = (
        ("labels", "label_names") if classes == 10 else ("fine_labels", "fine_label_names")
    )
    for filename, _ in kind.train_list + kind.test_list:
        pixels = np.random.default_rng(0).integers(0, 256, (classes, 3072), dtype=np.uint8)
        content = {"data": pixels, key: list(range(classes))}
        (folder / filename).write_bytes(pickle.dumps(content))
    meta = {meta_key: [f"class {number}" for number in range(classes)]}
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps(meta))
    with pytest.raises(ValueError, match="damaged"):  # the checksums are the real data set's
        load_dataset(name, tmp_path)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    for path in (tmp_path, folder):
        bundle = load_dataset(name, path)
        assert bundle.splits == {"train": classes * len(kind.train_list), "val": classes}
        assert bundle.class_names[3] == "class 3"
        assert bundle.val.stored([1])[0].flatten().tolist() == pixels[1].tolist()


def test_missing_cifar_names_folder_and_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"cifar-10-batches-py.*--download"):
        load_dataset("cifar10", tmp_path)


def imagenet_like(root, classes):
    for part in ("train", "val"):
        for number in range(classes):
            folder = root / part / f"n{number:08d}"
            folder.mkdir(parents=True)
            Image.new("RGB", (40, 30), (number, 0, 0)).save(folder / "a.JPEG")


def test_imagenet_class_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "IMAGENET_CLASSES", 12)
    imagenet_like(tmp_path, 12)
    bundle = load_dataset("imagenet", tmp_path, img_size=28)
    assert bundle.splits == {"train": 12, "val": 12} and bundle.default_augment == "imagenet"
    assert bundle.class_names == sorted(bundle.class_names)
    assert bundle.val.source.resize_ratio == 8 / 7
    images, _ = next(iter(bundle.train_loader(4)))
    assert images.shape == (4, 3, 28, 28)
    assert load_dataset("imagenet", tmp_path).img_size == 224


def test_imagenet_subset_and_missing_parts(tmp_path):
    with pytest.raises(ValueError, match="no train/"):
        load_dataset("imagenet", tmp_path)
    imagenet_like(tmp_path, 3)
    with pytest.raises(ValueError, match="use --data imagefolder"):
        load_dataset("imagenet", tmp_path)
