"""What a loader gives to an evaluation: inputs, and labels where there are any."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..graph.inputs import as_batch


def labelled_batches(
    loader, limit: int | None, device, names: list[str], labelled: bool
) -> Iterator[tuple]:
    """(images, or a tuple of inputs; labels or None) of each batch.

    Args:
        limit: at most so many images.
        names: of the model's inputs.
        labelled: labels are needed.

    Raises:
        ValueError: no labels, or another number of them than of images; no tensors.
    """
    left = math.inf if limit is None else limit
    for batch in loader:
        inputs, labels = _parted(batch, names)
        if labelled and labels is None:
            raise ValueError(
                f"the loader gives {type(batch).__name__}; evaluate needs batches (images, labels), "
                "or another task, which needs none: task='counts'"
            )
        images = len(inputs[0])
        if labels is not None and labelled:
            labels = torch.as_tensor(labels)
            if images != len(labels):
                raise ValueError(f"a batch has {images} images and {len(labels)} labels")
            labels = labels[: int(min(left, images))]
        if images == 0:
            continue
        yield as_batch(x[: int(min(left, images))].to(device) for x in inputs), labels
        left -= images
        if left <= 0:
            return


def _parted(batch, names: list[str]) -> tuple[tuple[Tensor, ...], object]:
    """The inputs of a batch, and its labels or None."""
    if isinstance(batch, Tensor):
        return (batch,), None
    if isinstance(batch, dict):
        missing = [name for name in names if name not in batch]
        if missing:
            raise ValueError(
                f"the loader gives dictionaries of {', '.join(map(str, batch))}; the model's input "
                f"{missing[0]!r} is not among them"
            )
        return tuple(batch[name] for name in names), batch.get("labels", batch.get("label"))
    if not isinstance(batch, (tuple, list)) or not batch:
        return (torch.empty(0),), None
    inside = isinstance(batch[0], (tuple, list))  # ((a, b), labels)
    inputs, others = (batch[0], batch[1:]) if inside else (batch[: len(names)], batch[len(names) :])
    wrong = [x for x in inputs if not isinstance(x, Tensor)]
    if wrong:
        raise ValueError(f"the loader gives a {type(wrong[0]).__name__} as input; give tensors")
    return tuple(inputs), others[0] if len(others) else None
