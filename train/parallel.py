"""Several processes that train one network."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from ..distributed import world_size
from ..models.direct import DirectNetwork


def synchronise_norms_(model: nn.Module) -> nn.Module:
    """Batch statistics over all processes (SyncBatchNorm; GPUs only), in place.

    Each norm keeps its parameters, its place and its own class as a base, so a subclass that lays
    out its input otherwise (tokens [B, N, C]) stays right and state-dict keys stay as they are.
    """
    for norm in model.modules():
        if isinstance(norm, _BatchNorm) and not isinstance(norm, nn.SyncBatchNorm):
            kind = type(norm)
            norm.__class__ = type(f"Sync{kind.__name__}", (kind, nn.SyncBatchNorm), {})
            norm.process_group = None
    return model


def data_parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """Wrap for several processes; with one process the model itself comes back.

    Norm statistics: SyncBatchNorm on GPUs; on CPUs, which have none, every process starts each
    step with the main process's buffers, so all save and evaluate the same network.
    """
    if world_size() == 1:
        return model
    idle = {"find_unused_parameters": _carries_unused_parameters(model)}
    if device.type == "cuda":
        return DistributedDataParallel(synchronise_norms_(model), device_ids=[device.index], **idle)
    return DistributedDataParallel(model, **idle)


def _carries_unused_parameters(model: nn.Module) -> bool:
    """Whether a network keeps parameters for its checkpoints' sake that get no gradient."""
    return any(
        part.parameter_counts()["all"] != part.parameter_counts()["used"]
        for part in model.modules()
        if isinstance(part, DirectNetwork)
    )
