"""The training loop of every classifier: QCFS networks, plain ANNs, direct-trained SNNs."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable

import torch
from timm.data import Mixup
from timm.utils import ModelEmaV3
from torch import nn
from tqdm import tqdm

from ..distributed import is_main, sum_over_processes
from .accuracy import classification_accuracy
from .objective import StepLogits, classifier_loss, count_correct
from .optimization import build_optimizer, build_schedule
from .parallel import data_parallel
from .seeding import deterministic_convolutions, seed_everything

logger = logging.getLogger(__name__)

AMP_TYPES = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class TrainingDivergedError(ValueError):
    """The loss is no finite number any more."""


def train_classifier(model: nn.Module, train_loader: Iterable, *, epochs: int,
                     validation_loader: Iterable | None = None, lr: float = 1e-3,
                     min_lr: float = 0.0, warmup_fraction: float = 0.1, optimizer: str = "adamw",
                     optimizer_arguments: dict | None = None, weight_decay: float = 0.05,
                     label_smoothing: float = 0.1, clip_grad: float | None = 5.0,
                     mixup: float = 0.0, cutmix: float = 0.0, num_classes: int | None = None,
                     per_step: bool = False, tet_weight: float | None = None, amp: str = "none",
                     ema: float = 0.0, device="cpu", seed: int = 0, resume: dict | None = None,
                     on_epoch: Callable[["Training", list[dict]], None] | None = None,
                     ) -> list[dict]:
    """Train `model` in place.

    Args:
        train_loader: batches (images, labels) with `len()`; its `set_epoch(n)`, if it has one, is
            called before epoch n (n from 1).
        epochs: passes over `train_loader`.
        validation_loader: measured after every epoch; a part of the training split, never the
            held-out one.
        lr, min_lr, warmup_fraction: peak and final learning rate, share of all steps that warm
            up; a cosine in between.
        optimizer, optimizer_arguments, weight_decay: see `build_optimizer`.
        clip_grad: largest global gradient norm; None or 0: no clipping.
        mixup, cutmix: alpha of timm's Mixup; 0: off. They need `num_classes`.
        per_step: train on `model.step_logits(images)` [T, B, classes]; `tet_weight` then chooses
            the TET loss (see `classifier_loss`).
        amp: none, bf16 or fp16 autocast (fp16 on CUDA only).
        ema: decay of averaged weights per step; 0: none.
        seed: of masks, dropout and mixup. Equal seeds give equal losses.
        resume: what `Training.state()` gave after an epoch; training goes on behind it.
        on_epoch: called after each epoch in the main process with the training and the epoch's
            lines; saves checkpoints, writes logs.

    Returns: a line for every epoch and split: epoch, split ("train" or "validation"), loss (nats,
        smoothed for train), top1, top5 (percent, None under mixup), learning_rate, seconds.

    Raises:
        ValueError: impossible arguments.
        TrainingDivergedError: the loss is not finite.
    """
    training = Training(model, train_loader, epochs=epochs, device=torch.device(device), seed=seed,
                        per_step=per_step, amp=amp, ema=ema)
    training.loss = _Loss(label_smoothing, tet_weight,
                          _mixing(mixup, cutmix, label_smoothing, num_classes))
    training.clip_grad = clip_grad or None
    training.optimizer = build_optimizer(model, optimizer, lr, weight_decay,
                                         **(optimizer_arguments or {}))
    training.schedule = build_schedule(training.optimizer, epochs, len(train_loader),
                                       warmup_fraction, min_lr)
    if resume is not None:
        training.restore(resume)
    lines = []
    with deterministic_convolutions():
        while training.epoch < epochs:
            new = [training.run_epoch()]
            if validation_loader is not None:
                new.append(training.validate(validation_loader))
            lines += new
            if on_epoch is not None and is_main():
                on_epoch(training, new)
    return lines


class _Loss:
    """Mixing, loss and hits of a batch."""

    def __init__(self, label_smoothing: float, tet_weight: float | None, mixing: Mixup | None):
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label smoothing {label_smoothing} must be in [0, 1), e.g. 0.1")
        self.label_smoothing, self.tet_weight, self.mixing = label_smoothing, tet_weight, mixing

    def mix(self, images, labels):
        """Images and targets; timm mixes pairs, so an odd batch gives up its last image."""
        if self.mixing is None:
            return images, labels
        even = len(images) - len(images) % 2
        return self.mixing(images[:even], labels[:even])

    def __call__(self, output, target):
        return classifier_loss(output, target, self.label_smoothing, self.tet_weight)


def _mixing(mixup: float, cutmix: float, label_smoothing: float,
            num_classes: int | None) -> Mixup | None:
    if mixup < 0 or cutmix < 0:
        raise ValueError(f"mixup {mixup} and cutmix {cutmix} must not be negative; 0 is off")
    if not mixup and not cutmix:
        return None
    if num_classes is None:
        raise ValueError("mixup and cutmix mix class probabilities; give num_classes")
    return Mixup(mixup_alpha=mixup, cutmix_alpha=cutmix, label_smoothing=label_smoothing,
                 num_classes=num_classes)


class Training:
    """State of one training between epochs; `train_classifier` makes and drives it.

    Attributes:
        model: the network that is trained (not its parallel wrapper).
        epoch: epochs done.
        averaged: the network with averaged weights, or None.
    """

    def __init__(self, model: nn.Module, loader, *, epochs: int, device: torch.device, seed: int,
                 per_step: bool, amp: str, ema: float):
        if isinstance(epochs, bool) or int(epochs) != epochs or epochs < 1:
            raise ValueError(f"epochs {epochs} must be a whole number of at least 1")
        if amp not in AMP_TYPES:
            raise ValueError(f"amp {amp!r} is unknown; known: {', '.join(AMP_TYPES)}")
        if amp == "fp16" and device.type != "cuda":
            raise ValueError("fp16 training needs a GPU; use bf16 or none on the CPU")
        if not 0 <= ema < 1:
            raise ValueError(f"ema decay {ema} must be in [0, 1), e.g. 0.999; 0 is off")
        if len(loader) == 0:
            raise ValueError("the training loader has no full batch; give a smaller --batch-size "
                             "or more images")
        self.model = model.to(device)
        self.loader, self.epochs, self.device, self.seed = loader, epochs, device, seed
        self.forward = data_parallel(StepLogits(model) if per_step else model, device)
        self.amp = AMP_TYPES[amp]
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16")
        self.averaging = ModelEmaV3(model, decay=ema, use_warmup=True) if ema else None
        self.epoch = 0
        self.loss: _Loss
        self.optimizer: torch.optim.Optimizer
        self.schedule = None
        self.clip_grad: float | None = None

    @property
    def averaged(self) -> nn.Module | None:
        return self.averaging.module if self.averaging is not None else None

    def state(self) -> dict:
        """All that `restore` needs, by reference: epoch, model, model_ema, optimizer, ..."""
        return {
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "model_ema": self.averaged.state_dict() if self.averaged is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": {"seed": self.seed, "scheme": "generators start anew from (seed, epoch, rank)"},
        }

    def restore(self, state: dict) -> None:
        """Go on behind the epoch that `state` was taken after.

        The schedule is a function of the step and the number of epochs alone, so there is nothing
        to restore in it; with another number of epochs the rest follows the new one.
        """
        if state.get("optimizer") is None:
            raise ValueError("this checkpoint holds weights without an optimizer, so no training "
                             "can go on from it; start a new one with --init PATH")
        self.model.load_state_dict(state["model"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["model_ema"] or state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.epoch = state["epoch"]

    def run_epoch(self) -> dict:
        """Train one epoch; returns its line."""
        started = time.perf_counter()
        number = self.epoch + 1
        seed_everything(self.seed, number)
        if hasattr(self.loader, "set_epoch"):
            self.loader.set_epoch(number)
        self.model.train()
        sums = torch.zeros(4, dtype=torch.float64, device=self.device)  # images, loss, hits, hits
        steps = len(self.loader)
        self.schedule.step_update(self.epoch * steps)
        bar = tqdm(self.loader, total=steps, desc=f"epoch {number}/{self.epochs}", leave=False,
                   disable=None if is_main() else True)
        for step, (images, labels) in enumerate(bar, 1):
            sums += self._step(images.to(self.device), labels.to(self.device))
            done = self.epoch * steps + step
            if self.averaging is not None:
                self.averaging.update(self.model, step=done)
            if step < steps:
                self.schedule.step_update(done)
            if self.device.type == "cpu" or step % 50 == 0 or step == steps:
                self._check_finite(float(sums[1]), number, step)
        self.epoch = number
        line = self._line(sums, time.perf_counter() - started)
        self._log(line)
        return line

    def validate(self, loader) -> dict:
        """Measure the averaged weights (or the plain ones) on a validation part."""
        started = time.perf_counter()
        found = classification_accuracy(self.averaged or self.model, loader, self.device)
        line = {"epoch": self.epoch, "split": "validation", "loss": found["loss"],
                "top1": found["top1"], "top5": found["top5"],
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "seconds": time.perf_counter() - started}
        self._log(line)
        return line

    def _step(self, images, labels) -> torch.Tensor:
        images, target = self.loss.mix(images, labels)
        autocast = (torch.autocast(self.device.type, self.amp) if self.amp is not None
                    else contextlib.nullcontext())
        with autocast:
            output = self.forward(images)
        output = output.float() if self.amp is not None else output
        loss = self.loss(output, target)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with torch.no_grad():
            count = len(output) if output.dim() == 2 else output.shape[1]
            hits = count_correct(output, labels[:count])
            return torch.stack([loss.new_tensor(count, dtype=torch.float64),
                                loss.detach().double() * count, hits[0].double(), hits[1].double()])

    def _check_finite(self, loss_sum: float, epoch: int, step: int) -> None:
        if not math.isfinite(loss_sum):
            raise TrainingDivergedError(
                f"the training loss is {loss_sum} in epoch {epoch} at step {step}; lower --lr, "
                "raise TRAIN.WARMUP_FRACTION, or clip harder with TRAIN.CLIP_GRAD")

    def _line(self, sums: torch.Tensor, seconds: float) -> dict:
        names = ("images", "loss", "first", "five")
        total = sum_over_processes(dict(zip(names, sums.tolist(), strict=True)))
        mixed = self.loss.mixing is not None
        return {"epoch": self.epoch, "split": "train", "loss": total["loss"] / total["images"],
                "top1": None if mixed else 100 * total["first"] / total["images"],
                "top5": None if mixed else 100 * total["five"] / total["images"],
                "learning_rate": self.optimizer.param_groups[0]["lr"], "seconds": seconds}

    def _log(self, line: dict) -> None:
        top1 = "-" if line["top1"] is None else f"{line['top1']:.2f} %"
        logger.info("epoch %d/%d  %s loss %.4f  top-1 %s  learning rate %.2e  %.1f s", line["epoch"],
                    self.epochs, line["split"], line["loss"], top1, line["learning_rate"],
                    line["seconds"])
