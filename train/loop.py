"""The training loop of every classifier: QCFS networks, plain ANNs, direct-trained SNNs."""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from ..distributed import is_main
from .objective import Objective
from .optimization import build_optimizer, build_schedule
from .seeding import deterministic_convolutions
from .spike_cost import check_spike_cost
from .training import Training


def train_classifier(
    model: nn.Module,
    train_loader: Iterable,
    *,
    epochs: int,
    validation_loader: Iterable | None = None,
    lr: float = 1e-3,
    min_lr: float = 0.0,
    warmup_fraction: float = 0.1,
    warmup_epochs: int = 0,
    warmup_lr: float | None = None,
    cooldown_epochs: int = 0,
    schedule: str = "update",
    optimizer: str = "adamw",
    optimizer_arguments: dict | None = None,
    weight_decay: float = 0.05,
    label_smoothing: float = 0.1,
    clip_grad: float | None = 5.0,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    mix_prob: float = 1.0,
    mix_switch: float = 0.5,
    mix_off_epoch: int = 0,
    num_classes: int | None = None,
    per_step: bool = False,
    tet_weight: float | None = None,
    spike_cost: float = 0.0,
    amp: str = "none",
    ema: float = 0.0,
    device="cpu",
    seed: int = 0,
    resume: dict | None = None,
    on_epoch: Callable[[Training, list[dict]], None] | None = None,
) -> list[dict]:
    """Train `model` in place.

    Args:
        train_loader: batches (images, labels) with `len()`; its `set_epoch(n)`, if it has one, is
            called before epoch n (n from 1).
        epochs: passes over `train_loader`, warm-up included.
        cooldown_epochs: further passes at `min_lr`.
        validation_loader: measured after every epoch; a part of the training split, never the
            held-out one.
        lr, min_lr, warmup_fraction: peak and final learning rate, share of all steps that warm
            up; a cosine in between. warmup_epochs, warmup_lr: see `build_schedule`.
        schedule: how often the learning rate changes, "update" or "epoch".
        optimizer, optimizer_arguments, weight_decay: see `build_optimizer`.
        clip_grad: largest global gradient norm; None or 0: no clipping.
        mixup, cutmix: alpha of timm's Mixup; 0: off. They need `num_classes`. mix_prob: share of
            batches that are mixed; mix_switch: of those, share of cutmix where both are on;
            mix_off_epoch: last epoch with mixing (0: all).
        per_step: train on `model.step_logits(images)` [T, B, classes]; `tet_weight` then chooses
            the TET loss (see `classifier_loss`).
        spike_cost: weight of the expected accumulations per image, see `SpikeCost`; 0: none.
        amp: none, bf16 or fp16 autocast (fp16 on CUDA only); auto: fp16 on CUDA, none elsewhere.
        ema: decay of averaged weights per step; 0: none.
        seed: of masks, dropout and mixup. Equal seeds give equal losses.
        resume: what `Training.state()` gave after an epoch; training goes on after it.
        on_epoch: called after each epoch in the main process with the training and the epoch's
            lines; saves checkpoints, writes logs.

    Returns: a line for every epoch and split: epoch, split ("train" or "validation"), loss (nats,
        smoothed for train), top1, top5 (percent, None under mixup), learning_rate, seconds.

    Raises:
        ValueError: impossible arguments.
        TrainingDivergedError: the loss is not finite.
    """
    training = Training(
        model,
        train_loader,
        epochs=epochs + cooldown_epochs,
        device=torch.device(device),
        seed=seed,
        per_step=per_step,
        amp=amp,
        ema=ema,
        schedule=schedule,
    )
    training.objective = Objective(
        label_smoothing,
        tet_weight,
        mixup,
        cutmix,
        num_classes,
        mix_prob,
        mix_switch,
        mix_off_epoch,
    )
    training.clip_grad = clip_grad or None
    training.spike_weight = check_spike_cost(spike_cost)
    training.optimizer = build_optimizer(
        model, optimizer, lr, weight_decay, **(optimizer_arguments or {})
    )
    training.schedule = build_schedule(
        training.optimizer,
        epochs,
        len(train_loader),
        warmup_fraction,
        min_lr,
        warmup_lr or None,
        warmup_epochs,
    )
    if resume is not None:
        training.restore(resume)
    lines = []
    with deterministic_convolutions():
        while training.epoch < training.epochs:
            new = [training.run_epoch()]
            if validation_loader is not None:
                new.append(training.validate(validation_loader))
            lines += new
            if on_epoch is not None and is_main():
                on_epoch(training, new)
    return lines
