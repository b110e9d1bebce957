"""Process groups, devices and exact sums; without torchrun everything is a no-op."""

from .devices import choose_device
from .process_group import (
    barrier,
    from_main,
    is_main,
    launched_by_torchrun,
    local_rank,
    rank,
    start_process_group,
    stop_process_group,
    world_size,
)
from .reductions import sum_over_processes

__all__ = [
    "barrier",
    "choose_device",
    "from_main",
    "is_main",
    "launched_by_torchrun",
    "local_rank",
    "rank",
    "start_process_group",
    "stop_process_group",
    "sum_over_processes",
    "world_size",
]
