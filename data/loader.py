"""Loaders: batches straight from memory where the images lie there, from files otherwise."""

import torch
from torch.utils.data import DataLoader, Dataset

from ..support.whole_numbers import whole_number
from .bundle import AugmentedSplit, Split
from .randomness import keyed_generator


class TrainLoader:
    """Shuffled, augmented batches (images float32 [B, C, S, S], labels int64 [B]).

    Order and augmentation hang on (seed, epoch) alone: a resumed run sees the same batches, and
    the k-th batches of all processes together are one `batch_size * world_size` batch of the
    same order. Each process gets equally many batches; the odd images at the end of an epoch's
    order are left to another epoch.

    Args:
        augmented: the training split with its augmentation.
        batch_size: images per batch and process.
        seed: of the order (the augmentation has its own).
        rank, world_size: this process and how many there are.
        workers: processes that decode files; of no use for images in memory.
        drop_last: leave out a last batch that is not full (unless it is the only one).
    """

    def __init__(
        self,
        augmented: AugmentedSplit,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        drop_last: bool = True,
    ):
        _check(batch_size, rank, world_size, workers)
        self.dataset, self.batch_size, self.seed = augmented, batch_size, seed
        self.rank, self.world_size, self.workers = rank, world_size, workers
        self.epoch = 0
        share = len(augmented) // world_size
        if share == 0:
            raise ValueError(
                f"{len(augmented)} training images are too few for {world_size} processes"
            )
        self.num_images = share - share % batch_size if drop_last and share > batch_size else share

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and augmentation of that epoch (0, 1, ...)."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-self.num_images // self.batch_size)

    def __iter__(self):
        self.dataset.set_epoch(self.epoch)
        generator = keyed_generator(self.seed, self.epoch, "order")
        order = torch.randperm(len(self.dataset), generator=generator)
        order = order[self.rank :: self.world_size][: self.num_images]
        batches = order.split(self.batch_size)
        if self.dataset.kind == "imagenet":
            yield from _from_files(self.dataset, batches, self.workers)
            return
        for stored, positions in _stored_batches(self.dataset.split, batches, self.workers):
            yield self.dataset.augment(stored, positions), self.dataset.labels[positions]


class EvalLoader:
    """Batches in the split's own order, each image once: (images [B, C, S, S], labels [B]).

    Several processes get one contiguous block each, without padding; `first_index` is the place
    of a block's first image in the whole split.

    Args:
        split: the images.
        batch_size: images per batch.
        rank, world_size: this process and how many there are.
        workers: processes that decode files.
        limit: only the first so many images of the split (before it is shared out).
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        limit: int | None = None,
    ):
        _check(batch_size, rank, world_size, workers)
        limit = None if limit is None else whole_number("limit", limit)
        self.dataset, self.batch_size, self.workers = split, batch_size, workers
        total = len(split) if limit is None else min(limit, len(split))
        self.first_index = rank * total // world_size
        self.num_images = (rank + 1) * total // world_size - self.first_index
        self.total_images = total

    def __len__(self) -> int:
        """Batches in this process."""
        return -(-self.num_images // self.batch_size)

    def __iter__(self):
        order = torch.arange(self.first_index, self.first_index + self.num_images)
        batches = order.split(self.batch_size) if self.num_images else ()
        for stored, positions in _stored_batches(self.dataset, batches, self.workers):
            yield self.dataset.preparation(stored), self.dataset.labels[positions]


class _Stored(Dataset):
    """Bytes of single images, for worker processes: (uint8 [C, h, w], position)."""

    def __init__(self, split: Split):
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, position: int):
        return self.split.stored([position])[0], position


def _stored_batches(split: Split, batches, workers: int):
    """(uint8 [B, C, h, w], positions [B]) of each batch of positions."""
    if split.source.in_memory:
        for positions in batches:
            yield split.stored(positions), positions
    else:
        yield from _from_files(_Stored(split), batches, workers)


def _from_files(dataset: Dataset, batches, workers: int):
    lists = [positions.tolist() for positions in batches]
    # a generator of its own: the global one is left alone
    generator = keyed_generator("loader")
    yield from map(
        tuple, DataLoader(dataset, batch_sampler=lists, num_workers=workers, generator=generator)
    )


def _check(batch_size, rank, world_size, workers) -> None:
    whole_number("batch_size", batch_size)
    whole_number("workers", workers, least=0)
    if not 0 <= rank < world_size:
        raise ValueError(f"rank is {rank}, but must be from 0 to world_size - 1 = {world_size - 1}")
