"""Sums over all processes that do not depend on how many there are."""

import math

from torch import distributed as dist

from .process_group import world_size


def sum_over_processes(values: dict[str, int | float]) -> dict[str, int | float]:
    """Add up one dictionary of numbers over all processes; each gets the same answer.

    Whole numbers are added exactly, whatever their size (they never pass through a float);
    floats are added with one rounding (`math.fsum`), so the order of the processes is invisible.

    Raises:
        ValueError: the processes do not hold the same keys.
    """
    if world_size() == 1:
        return dict(values)
    parts: list = [None] * world_size()
    dist.all_gather_object(parts, values)
    for number, part in enumerate(parts):
        if part.keys() != values.keys():
            raise ValueError(
                f"process {number} adds up {sorted(part)} and this one "
                f"{sorted(values)}; call sum_over_processes with equal keys"
            )
    return {key: _sum([part[key] for part in parts]) for key in values}


def _sum(numbers: list):
    if all(isinstance(number, int) for number in numbers):
        return sum(numbers)
    return math.fsum(numbers)
