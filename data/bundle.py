"""A loaded data set: its splits, what is known about them, and their loaders."""

from dataclasses import dataclass

import torch
from torch.utils.data import Dataset

from ..support.messages import near_names
from .augment import BATCHED, KINDS, ImageNetAugmentation, draw_numbers
from .preparation import Preparation


class Split(Dataset):
    """Some images of a source, prepared for a network; map-style, without augmentation.

    Args:
        source: `MemoryImages` or `FileImages`.
        indices: which of its images, in this split's order; None: all.
        preparation: size, channels and normalisation.
    """

    def __init__(self, source, indices, preparation: Preparation):
        indices = range(len(source)) if indices is None else indices
        self.source, self.preparation = source, preparation
        self.indices = torch.as_tensor(list(indices), dtype=torch.int64)
        self.labels = source.labels[self.indices]  # int64 [N]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
        """(normalised float32 [C, S, S], label)."""
        if not -len(self) <= position < len(self):
            raise IndexError(f"image {position} of {len(self)}")
        return self.preparation(self.stored([position]))[0], int(self.labels[position])

    def stored(self, positions) -> torch.Tensor:
        """The bytes of several images, uint8 [B, C, h, w]."""
        return self.source.fetch(self.indices[torch.as_tensor(positions)])

    def picture(self, position: int):
        """One image as a PIL image."""
        return self.source.picture(int(self.indices[position]))


class AugmentedSplit(Dataset):
    """A split with random augmentation; map-style. `set_epoch` draws anew.

    `timm_options` are arguments of timm's `create_transform`, for the kind "imagenet".
    """

    def __init__(self, split: Split, kind: str, seed: int = 0, timm_options: dict | None = None):
        self.split, self.kind, self.seed = split, kind, seed
        self.labels = split.labels
        self._whole = (
            ImageNetAugmentation(split.preparation, **(timm_options or {}))
            if kind == "imagenet"
            else None
        )
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the random numbers of that epoch."""
        self.epoch = epoch
        if self.kind in BATCHED:
            self._numbers = draw_numbers(len(self.split), self.seed, epoch)

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
        """(normalised, augmented float32 [C, S, S], label)."""
        if self._whole is None:
            stored = self.split.stored([position])
            return self.augment(stored, [position])[0], int(self.labels[position])
        picture = self.split.picture(position)
        return self._whole(picture, self.seed, self.epoch, position), int(self.labels[position])

    def augment(self, stored: torch.Tensor, positions) -> torch.Tensor:
        """uint8 [B, C, h, w] -> augmented, normalised float32 [B, C, S, S]."""
        images = self.split.preparation.unit_range(stored)
        if self.kind in BATCHED:
            images = BATCHED[self.kind](images, self._numbers[torch.as_tensor(positions)])
        return self.split.preparation.normalise(images)


@dataclass
class DataBundle:
    """One data set, ready to use.

    Attributes:
        name: as given to `load_dataset`.
        train: the training split.
        val: the held-out split, the one that is reported.
        num_classes, class_names: what the labels mean.
        in_chans, img_size: of the prepared images (channels, pixels).
        note: where the images come from and how they were split, one sentence for reports.
        select: a part set apart of the training split, to choose a checkpoint by; or None.
        default_augment: what "auto" means here.
    """

    name: str
    train: Split
    val: Split
    num_classes: int
    in_chans: int
    img_size: int
    class_names: list[str]
    note: str = ""
    select: Split | None = None
    default_augment: str = "none"

    @property
    def splits(self) -> dict[str, int]:
        """Images in each split: {"train": n, "val": n} and "select" if there is one."""
        named = {"train": self.train, "val": self.val, "select": self.select}
        return {name: len(split) for name, split in named.items() if split is not None}

    def split(self, name: str) -> Split:
        """A split by name; ValueError names those there are."""
        if name not in self.splits:
            hint = ", ".join(self.splits)
            if name == "select":
                hint += " (select needs a val_fraction above 0)"
            raise ValueError(f"unknown split {name!r} of {self.name}; known: {hint}")
        return getattr(self, name)

    def train_augmented(self, kind="auto", seed=0, timm_options=None) -> AugmentedSplit:
        """The training split with augmentation, one image at a time."""
        return AugmentedSplit(self.train, self.augmentation(kind), seed, timm_options)

    def augmentation(self, kind: str) -> str:
        """The augmentation that `kind` means here; ValueError lists near names."""
        if kind == "auto":
            return self.default_augment
        if kind not in KINDS:
            raise ValueError(f"unknown augmentation {kind!r}; {near_names(kind, ['auto', *KINDS])}")
        return kind

    def train_loader(
        self,
        batch_size,
        augment="auto",
        seed=0,
        rank=0,
        world_size=1,
        workers=0,
        drop_last=True,
        timm_options=None,
    ):
        """Shuffled, augmented batches of the training split; see `TrainLoader`."""
        from .loader import TrainLoader

        augmented = self.train_augmented(augment, seed, timm_options)
        return TrainLoader(augmented, batch_size, seed, rank, world_size, workers, drop_last)

    def eval_loader(self, batch_size, split="val", rank=0, world_size=1, workers=0, limit=None):
        """Batches of a split in its own order, each image once; see `EvalLoader`."""
        from .loader import EvalLoader

        return EvalLoader(self.split(split), batch_size, rank, world_size, workers, limit)
