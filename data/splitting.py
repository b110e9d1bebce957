"""Stratified splits: the same share of every class, disjoint, fixed by a seed."""

import math

import torch

from .randomness import name_order


def check_fraction(fraction: float) -> float:
    """`fraction` as a float in [0, 1), or ValueError."""
    if isinstance(fraction, bool) or not 0 <= float(fraction) < 1:
        raise ValueError(f"val_fraction is {fraction!r}, but must be at least 0 and below 1")
    return float(fraction)


def stratified(labels: torch.Tensor, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Split positions into (rest, part), `part` with about `fraction` of each class.

    Args:
        labels: class of each image, [N].
        fraction: share of each class in `part`, (0, 1); at least one image of each class that
            has two or more, and never all of a class.
        seed: the split is a function of labels, fraction and seed.

    Both lists are ascending positions.
    """
    part = []
    for label in torch.unique(labels).tolist():
        members = torch.nonzero(labels == label).flatten().tolist()
        order = name_order(members, f"{seed}/split")  # hashes: equal on every PyTorch version
        part += [members[i] for i in order[: part_size(len(members), fraction)]]
    chosen = set(part)
    return [i for i in range(len(labels)) if i not in chosen], sorted(part)


def part_size(count: int, fraction: float) -> int:
    """How many of `count` images of one class go to the part."""
    return min(max(1, math.floor(fraction * count + 0.5)), count - 1)
