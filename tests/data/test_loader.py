"""Loaders: every image once, equal from memory and one by one, the same for equal seeds."""

import pytest
import torch

from spikeswap.data import load_dataset


@pytest.fixture(scope="module")
def bundle():
    return load_dataset("mnist5k", img_size=32)


def gather(loader):
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_eval_batches_equal_single_images_in_order(bundle):
    images, labels = gather(bundle.eval_loader(37, limit=100))
    for position in range(100):
        image, label = bundle.val[position]
        assert torch.equal(images[position], image) and labels[position] == label


def test_eval_loader_gives_every_image_once(bundle):
    loader = bundle.eval_loader(64)
    assert len(loader) == 16 and loader.num_images == 1000
    images, labels = gather(loader)
    assert images.shape == (1000, 1, 32, 32) and torch.equal(labels, bundle.val.labels)


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_eval_shards_are_contiguous_and_unpadded(bundle, world_size):
    whole, _ = gather(bundle.eval_loader(50, limit=101))
    shards = [
        bundle.eval_loader(50, rank=r, world_size=world_size, limit=101) for r in range(world_size)
    ]
    assert sum(shard.num_images for shard in shards) == 101
    assert torch.equal(torch.cat([gather(shard)[0] for shard in shards]), whole)
    start = 0
    for shard in shards:
        assert shard.first_index == start
        start += shard.num_images


def test_a_shard_may_be_empty(bundle):
    loader = bundle.eval_loader(50, rank=0, world_size=3, limit=2)
    assert loader.num_images == 0 and len(loader) == 0 and list(loader) == []


def test_training_batches_without_augmentation_equal_single_images(bundle):
    loader = bundle.train_loader(40, augment="none", seed=5)
    singles = bundle.train_augmented("none")
    images, labels = next(iter(loader))
    stored = torch.stack([image for image, _ in singles])
    for image, label in zip(images, labels, strict=True):
        place = torch.nonzero((stored == image).flatten(1).all(1))[0].item()
        assert singles[place][1] == label


@pytest.mark.parametrize("kind", ["digits", "crop-flip", "imagenet"])
def test_training_batches_equal_single_images(bundle, kind):
    loader = bundle.train_loader(8, augment=kind, seed=5)
    loader.set_epoch(2)
    singles = bundle.train_augmented(kind, seed=5)
    singles.set_epoch(2)
    images, labels = next(iter(loader))
    order = torch.randperm(4000, generator=order_generator(5, 2))[:8].tolist()
    for image, label, position in zip(images, labels, order, strict=True):
        single, single_label = singles[position]
        torch.testing.assert_close(image, single, rtol=0, atol=1e-5)
        assert single_label == label


def order_generator(seed, epoch):
    from spikeswap.data.randomness import keyed_generator

    return keyed_generator(seed, epoch, "order")


def test_equal_seeds_give_equal_batches_and_epochs_differ(bundle):
    loaders = [bundle.train_loader(40, seed=seed) for seed in (1, 1, 2)]
    first, same, other = (gather(loader) for loader in loaders)
    assert torch.equal(first[0], same[0]) and torch.equal(first[1], same[1])
    assert not torch.equal(first[1], other[1])
    loaders[0].set_epoch(1)
    assert not torch.equal(gather(loaders[0])[1], first[1])
    loaders[0].set_epoch(0)
    assert torch.equal(gather(loaders[0])[0], first[0])


def test_loaders_leave_the_global_generator_alone(bundle):
    before = torch.get_rng_state()
    for augment in ("digits", "crop-flip", "imagenet"):
        next(iter(bundle.train_loader(4, augment=augment)))
    next(iter(bundle.eval_loader(4)))
    assert torch.equal(torch.get_rng_state(), before)


def test_processes_share_out_the_batches_of_one(bundle):
    whole = bundle.train_loader(40, seed=3)
    halves = [bundle.train_loader(20, seed=3, rank=rank, world_size=2) for rank in (0, 1)]
    assert len(whole) == len(halves[0]) == len(halves[1]) == 100
    for batch, *parts in zip(whole, *halves, strict=True):
        shared = torch.stack([part[0] for part in parts], 1).flatten(0, 1)
        torch.testing.assert_close(shared, batch[0], rtol=0, atol=1e-5)


def test_a_last_batch_that_is_not_full(bundle):
    assert [len(y) for _, y in bundle.train_loader(1500)] == [1500, 1500]
    assert [len(y) for _, y in bundle.train_loader(1500, drop_last=False)] == [1500, 1500, 1000]
    assert [len(y) for _, y in bundle.train_loader(9000)] == [4000]


@pytest.mark.parametrize("kind", ["digits", "crop-flip"])
def test_augmentation_changes_images_but_not_much(bundle, kind):
    plain = bundle.train_augmented("none")
    augmented = bundle.train_augmented(kind)
    changed = sum(not torch.equal(plain[i][0], augmented[i][0]) for i in range(50))
    assert changed > 40
    ink = torch.tensor([[part[i][0].mean() for i in range(50)] for part in (plain, augmented)])
    assert abs(ink[0].mean() - ink[1].mean()) < 0.05


def test_auto_is_the_data_sets_own(bundle):
    assert bundle.augmentation("auto") == "digits"
    with pytest.raises(ValueError, match="did you mean digits"):
        bundle.train_loader(4, augment="digit")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"batch_size": 4, "rank": 2, "world_size": 2}, "rank is 2"),
        ({"batch_size": 4, "workers": -1}, "workers is -1"),
        ({"batch_size": 4, "limit": 0}, "limit is 0"),
        ({"batch_size": 4, "split": "test"}, "unknown split 'test' of mnist5k; known: train, val"),
        ({"batch_size": 4, "split": "select"}, "val_fraction"),
    ],
)
def test_impossible_loaders(bundle, arguments, message):
    with pytest.raises(ValueError, match=message):
        bundle.eval_loader(**arguments)


def test_too_few_images_for_the_processes():
    with pytest.raises(ValueError, match="too few"):
        load_dataset("fake").train_loader(4, rank=0, world_size=1000)
