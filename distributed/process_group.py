"""The process group that `torchrun` describes in the environment: gloo on CPU, nccl on GPU.

Every function works without torchrun too: one process, rank 0 of 1.
"""

import datetime
import logging
import os

import torch
from torch import distributed as dist

logger = logging.getLogger(__name__)


def launched_by_torchrun() -> bool:
    """Whether torchrun (or something that sets the same variables) started this process."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()


def start_process_group(device: torch.device, timeout_minutes: float = 30) -> None:
    """Join the group that torchrun describes; nothing happens without torchrun or when joined.

    Args:
        device: where this process computes; decides the backend.
        timeout_minutes: how long a collective waits for a process that does not come.
    """
    if not launched_by_torchrun() or dist.is_initialized():
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backend, timeout=datetime.timedelta(minutes=timeout_minutes))
    logger.info("process %d of %d, backend %s, device %s", rank(), world_size(), backend, device)


def stop_process_group() -> None:
    """Leave the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """Number of this process on its machine, from 0 (which GPU it takes)."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_main() -> bool:
    """Whether this process is the one that prints and writes."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()


def from_main(value):
    """The main process's `value` (any plain object), in every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
