"""The embedded digits: a fixed, stratified, disjoint split, padded and not resized."""

import hashlib

import torch

from spikeswap.data import load_dataset

TRAIN_SHA256 = "3f56080e0166ea36ec4cd6d00147ab8fd01bb625414ea2fda196579d9fd82bba"
VAL_SHA256 = "9b9ad30490ad46d22ec08113d8c2b189b92e48560bea7b9058739b3f0c907a73"


def digest(split):
    """SHA-256 of a split's images and labels in its own order."""
    content = split.stored(torch.arange(len(split))).numpy().tobytes()
    return hashlib.sha256(content + split.labels.numpy().tobytes()).hexdigest()


def test_split_is_stratified_and_disjoint():
    bundle = load_dataset("mnist5k")
    assert bundle.splits == {"train": 4000, "val": 1000}
    assert torch.bincount(bundle.train.labels).tolist() == [400] * 10
    assert torch.bincount(bundle.val.labels).tolist() == [100] * 10
    together = torch.cat([bundle.train.indices, bundle.val.indices])
    assert sorted(together.tolist()) == list(range(5000))


def test_split_is_fixed_whatever_the_seed():
    bundle = load_dataset("mnist5k", seed=3)
    assert digest(bundle.train) == TRAIN_SHA256
    assert digest(bundle.val) == VAL_SHA256


def test_first_images_are_of_all_classes():
    assert len(load_dataset("mnist5k").val.labels[:100].unique()) == 10


def test_28_to_32_is_padded_with_black():
    small, large = load_dataset("mnist5k"), load_dataset("mnist5k", img_size=32)
    assert (small.img_size, small.in_chans, small.num_classes) == (28, 1, 10)
    image, label = large.val[5]
    assert image.shape == (1, 32, 32) and image.dtype == torch.float32 and isinstance(label, int)
    assert torch.equal(image[:, 2:30, 2:30], small.val[5][0])
    black = (0 - torch.tensor(0.1307)) / torch.tensor(0.3081)
    for border in (image[:, :2], image[:, 30:], image[:, :, :2], image[:, :, 30:]):
        assert torch.equal(border, black.expand_as(border))


def test_other_sizes_are_resized_and_grey_becomes_colour():
    bundle = load_dataset("mnist5k", img_size=56, in_chans=3)
    image, _ = bundle.val[0]
    assert image.shape == (3, 56, 56) and bundle.in_chans == 3
    assert torch.equal(image[0], image[2])


def test_pixels_are_normalised():
    images, _ = next(iter(load_dataset("mnist5k").eval_loader(1000)))
    assert abs(images.mean()) < 0.05 and abs(images.std() - 1) < 0.05


def test_note_does_not_claim_the_mnist_test_set():
    assert "not the MNIST test set" in load_dataset("mnist5k").note


def test_select_is_cut_from_the_training_split():
    plain, bundle = load_dataset("mnist5k"), load_dataset("mnist5k", val_fraction=0.1, seed=1)
    assert bundle.splits == {"train": 3600, "val": 1000, "select": 400}
    assert torch.bincount(bundle.select.labels).tolist() == [40] * 10
    assert torch.equal(bundle.val.indices, plain.val.indices)
    both = torch.cat([bundle.train.indices, bundle.select.indices])
    assert sorted(both.tolist()) == sorted(plain.train.indices.tolist())
    again = load_dataset("mnist5k", val_fraction=0.1, seed=1)
    other = load_dataset("mnist5k", val_fraction=0.1, seed=2)
    assert torch.equal(bundle.select.indices, again.select.indices)
    assert not torch.equal(bundle.select.indices, other.select.indices)
