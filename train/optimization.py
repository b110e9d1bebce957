"""Optimizer and learning-rate schedule, both from timm's factories."""

import logging

import torch
from torch import nn

from ..support.messages import near_names
from .nvidia_apex import require_nvidia_apex

logger = logging.getLogger(__name__)

# Relative-position tables have two axes but are biases: no weight decay, as in Swin.
UNDECAYED = ("*relative_position_bias_table*", "*relative_position_table*", "*.absolute_pos_embed")


def build_optimizer(
    model: nn.Module,
    name: str = "adamw",
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    decay_everything: bool = False,
    **arguments,
) -> torch.optim.Optimizer:
    """An optimizer of timm by name; 1-D tensors and relative-position tables are undecayed.

    Args:
        model: whose parameters are trained.
        name: e.g. adamw, sgd, lamb, fusedadamw (NVIDIA Apex).
        lr: peak learning rate, per step.
        weight_decay: on tensors of two axes and more.
        decay_everything: decay every tensor, thresholds too (the QCFS recipe).
        arguments: further arguments of that optimizer (momentum, betas, eps).

    Raises:
        ValueError: unknown optimizer, or an impossible number.
    """
    # timm takes seconds to import, and is for training alone
    from timm.optim import create_optimizer_v2, list_optimizers, param_groups_weight_decay

    for label, value, low in (("learning rate", lr, 0.0), ("weight decay", weight_decay, 0.0)):
        if not low <= value < float("inf"):
            raise ValueError(
                f"{label} {value} must be a finite number of at least {low:g}; "
                "e.g. 0.001 and 0.05 for adamw"
            )
    known = list_optimizers()
    if name.lower().split("_")[-1] not in known:
        raise ValueError(f"unknown optimizer {name!r}; {near_names(name, known)}")
    if name.lower().startswith("fused"):
        require_nvidia_apex(f"optimizer {name!r}")
    if decay_everything:
        groups = [
            {
                "params": [p for p in model.parameters() if p.requires_grad],
                "weight_decay": weight_decay,
            }
        ]
    else:
        groups = param_groups_weight_decay(model, weight_decay, no_weight_decay_list=UNDECAYED)
    return create_optimizer_v2(groups, opt=name, lr=lr, weight_decay=weight_decay, **arguments)


def build_schedule(
    optimizer: torch.optim.Optimizer,
    epochs: int,
    steps_per_epoch: int,
    warmup_fraction: float = 0.1,
    min_lr: float = 0.0,
    warmup_lr: float | None = None,
    warmup_epochs: int = 0,
):
    """Linear warm-up, half a cosine down to `min_lr`, then `min_lr`; stepped at every update.

    Args:
        epochs: length of warm-up and cosine; what follows them is the cool-down.
        warmup_fraction: share of all steps that warm up, in [0, 1); the cosine starts after them.
        min_lr: learning rate at the end.
        warmup_lr: learning rate of the first step (default: a hundredth of the peak, and never
            above it).
        warmup_epochs: above 0 the warm-up takes so many epochs instead, and the cosine runs unseen
            meanwhile (timm's default, which published recipes mean): no peak is held.

    Returns: timm's scheduler; call `.step_update(updates_done)` after each update.
    """
    if not 0 <= warmup_fraction < 1:
        raise ValueError(f"warm-up fraction {warmup_fraction} must be in [0, 1), e.g. 0.1")
    peak = max(group["lr"] for group in optimizer.param_groups)
    if not 0 <= min_lr <= peak:
        raise ValueError(
            f"final learning rate {min_lr} must be in [0, {peak}], the peak; "
            "lower TRAIN.MIN_LR or raise --lr"
        )
    from timm.scheduler import create_scheduler_v2

    if warmup_lr is None:
        warmup_lr = peak / 100
    if warmup_epochs >= epochs:
        logger.warning(
            "the warm-up of %d epochs is not shorter than the training (%d): the learning rate "
            "never reaches its peak; lower TRAIN.WARMUP_EPOCHS",
            warmup_epochs,
            epochs,
        )
    warmup = warmup_epochs or warmup_fraction * epochs
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=epochs if warmup_epochs else epochs - warmup,
        min_lr=min_lr,
        warmup_lr=warmup_lr,
        warmup_epochs=warmup,
        warmup_prefix=not warmup_epochs,
        step_on_epochs=False,
        updates_per_epoch=steps_per_epoch,
    )
    return scheduler
