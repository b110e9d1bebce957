"""Calibration images, in whatever form users hold them: one check in front of every entry point."""

from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ..graph.inputs import as_batch

# Where data sets of a model hub keep the images of a batch.
IMAGE_KEYS = ("pixel_values", "images", "image", "img", "inputs")
_WANTED = "it must give tensors [B, C, H, W] or (images, labels) pairs"


class Batches:
    """Batches of images [B, ...] of floats, that can be read again and again.

    For a network of several inputs each batch is a tuple of them: the first tensors of what a loader
    gives (a, b, labels), or its first entry ((a, b), labels), or of a dictionary those with the names of
    the inputs.

    Args:
        source: a tensor [B, C, H, W]; a pair (images, labels) of tensors; a data set of single
            images or of (image, label); or an iterable of batches: tensors, (images, labels)
            or dictionaries. An iterator that can be read once is kept in memory.
        inputs: names of the network's inputs (`graph.inputs.input_names`).

    Raises:
        ValueError: nothing that gives images, in one sentence.
    """

    def __init__(self, source, inputs: Sequence[str] = ("images",)):
        self.inputs = tuple(inputs)
        if isinstance(source, Batches):
            source = source.source
        elif isinstance(source, Tensor):
            source = [source]
        elif len(self.inputs) > 1 and _are_inputs(source, len(self.inputs)):
            source = [source]
        elif _is_pair(source):
            source = [source[0]]
        elif isinstance(source, Dataset) and not isinstance(source, IterableDataset):
            source = DataLoader(source, batch_size=32)
        elif not hasattr(source, "__iter__") and not hasattr(source, "__getitem__"):
            raise ValueError(
                f"calibration is a {type(source).__name__}; give an iterable of batches of images, "
                "such as a DataLoader"
            )
        elif hasattr(source, "__next__") or not hasattr(source, "__len__"):
            source = list(source)  # it loses what was read
        self.source = source
        self.first = next(iter(self), None)
        if self.first is None:
            raise ValueError("the loader gives no images; give images of the training split")

    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, ...]]:
        for number, batch in enumerate(self.source):
            inputs = batch_inputs(batch, self.inputs)
            if len(inputs[0]) == 0:
                continue
            for images in inputs:
                if not bool(images.isfinite().all()):
                    bad = [i for i, image in enumerate(images) if not bool(image.isfinite().all())]
                    raise ValueError(
                        f"image {bad[0]} of batch {number} of the loader holds NaN or infinity; "
                        "check how the images are read and normalised"
                    )
            yield as_batch(inputs)


def _are_inputs(source, count: int) -> bool:
    """Whether this is one batch of each input."""
    tensors = type(source) in (tuple, list) and len(source) == count
    if not tensors or not all(isinstance(x, Tensor) and x.dim() > 1 for x in source):
        return False
    return type(source) is tuple and len({len(x) for x in source}) == 1


def _is_pair(source) -> bool:
    """Whether this is (X, Y): images, and a label for each."""
    if type(source) not in (tuple, list) or len(source) != 2:
        return False
    images, labels = source
    both = isinstance(images, Tensor) and isinstance(labels, Tensor)
    return both and images.dim() > 1 and labels.dim() <= 1 and len(images) == labels.numel()


def batch_inputs(batch, names: Sequence[str]) -> tuple[Tensor, ...]:
    """The inputs of a batch; fewer than there are names if it does not hold as many."""
    if isinstance(batch, dict) and all(name in batch for name in names):
        batch = [batch[name] for name in names]
    elif len(names) == 1 or not isinstance(batch, (tuple, list)):
        return (batch_images(batch),)
    elif batch and isinstance(batch[0], (tuple, list)):  # ((a, b), labels)
        batch = batch[0]
    first = batch_images(batch)
    others = [x for x in batch[1 : len(names)] if isinstance(x, Tensor) and x.is_floating_point()]
    wrong = next((x for x in others if len(x) != len(first)), None)
    if wrong is not None:
        raise ValueError(
            f"the loader gives {len(first)} images for input {names[0]!r} and {len(wrong)} for "
            "another one; give as many of each"
        )
    return (first, *others)


def batch_images(batch) -> Tensor:
    """The images of a batch: a tensor, the first of a pair, or an entry of a dictionary."""
    if isinstance(batch, dict):
        key = next((key for key in IMAGE_KEYS if key in batch), None)
        if key is None:
            raise ValueError(
                f"the loader gives dictionaries of {', '.join(map(str, batch))}; name the images "
                f"{' or '.join(IMAGE_KEYS[:3])}, or give tensors"
            )
        batch = batch[key]
    images = batch[0] if isinstance(batch, (tuple, list)) and len(batch) else batch
    if not isinstance(images, Tensor):
        raise ValueError(f"the loader gives a {type(images).__name__}; {_WANTED}")
    if images.dim() < 2:
        raise ValueError(
            f"the loader gives a tensor of shape {tuple(images.shape)}, which is no batch of images; "
            f"{_WANTED}"
        )
    if not images.is_floating_point():
        raise ValueError(
            f"the loader gives images of type {images.dtype}; give them as the network was trained "
            "on: floating point and normalised (torchvision's ToTensor divides 0 to 255 by 255)"
        )
    return images
