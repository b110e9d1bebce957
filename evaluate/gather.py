"""Bring together what the processes of an evaluation found."""

from torch import distributed as dist

from ..counting import Ledger
from ..distributed import world_size


def gather(value) -> list:
    """One plain value of every process, in the order of their ranks."""
    if world_size() == 1:
        return [value]
    parts: list = [None] * world_size()
    dist.all_gather_object(parts, value)
    return parts


def merged(ledger: Ledger) -> Ledger:
    """Counts of all processes together; exact, whatever their number."""
    total = Ledger()
    for part in gather(ledger):
        total.merge(part)
    return total
