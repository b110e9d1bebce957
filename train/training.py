"""One training between its epochs: networks, optimizer, schedule, and how an epoch runs."""

import contextlib
import logging
import math
import time

import torch
from torch import nn
from tqdm import tqdm

from ..distributed import is_main, sum_over_processes
from ..support.messages import reason
from ..support.whole_numbers import whole_number
from .accuracy import classification_accuracy
from .objective import Objective, StepLogits, count_correct
from .parallel import data_parallel
from .seeding import seed_everything
from .spike_cost import SpikeCost

logger = logging.getLogger(__name__)

AMP_TYPES = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16, "auto": None}

SCHEDULES = ("update", "epoch")  # how often the learning rate changes


class TrainingDivergedError(ValueError):
    """The loss is no finite number any more."""


class Training:
    """State of one training between epochs; `train_classifier` makes and drives it.

    Attributes:
        model: the network that is trained (not its parallel wrapper).
        epoch: epochs done.
        averaged: the network with averaged weights, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        loader,
        *,
        epochs: int,
        device: torch.device,
        seed: int,
        per_step: bool,
        amp: str,
        ema: float,
        schedule: str = "update",
    ):
        epochs = whole_number("epochs", epochs)
        if amp not in AMP_TYPES:
            raise ValueError(f"amp {amp!r} is unknown; known: {', '.join(AMP_TYPES)}")
        if amp == "auto":
            amp = "fp16" if device.type == "cuda" else "none"
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule {schedule!r} is unknown; known: {', '.join(SCHEDULES)}")
        if amp == "fp16" and device.type != "cuda":
            raise ValueError("fp16 training needs a GPU; use bf16 or none on the CPU")
        if not 0 <= ema < 1:
            raise ValueError(f"ema decay {ema} must be in [0, 1), e.g. 0.999; 0 is off")
        if len(loader) == 0:
            raise ValueError(
                "the training loader has no full batch; give a smaller --batch-size or more images"
            )
        self.model = model.to(device)
        self.loader, self.epochs, self.device, self.seed = loader, epochs, device, seed
        self.forward = data_parallel(StepLogits(model) if per_step else model, device)
        self.amp = AMP_TYPES[amp]
        self.schedule_per_epoch = schedule == "epoch"
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16")
        self.averaging = _averaging(model, ema)
        self.epoch = 0
        self.objective: Objective
        self.optimizer: torch.optim.Optimizer
        self.schedule = None
        self.clip_grad: float | None = None
        self.spike_weight = 0.0
        self.spike_cost: SpikeCost | None = None

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
        """Go on after the epoch that `state` was taken after.

        The schedule is a function of the step and the number of epochs alone, so there is nothing
        to restore in it; with another number of epochs the rest follows the new one.
        """
        if state.get("optimizer") is None:
            raise ValueError(
                "this checkpoint holds weights without an optimizer, so no training "
                "can go on from it; start a new one with --init PATH"
            )
        try:
            self.model.load_state_dict(state["model"])
            if self.averaged is not None:
                self.averaged.load_state_dict(state["model_ema"] or state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if state["scaler"]:
                self.scaler.load_state_dict(state["scaler"])
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(
                "this checkpoint does not fit the recipe's network and optimizer "
                f"({reason(error)}), so no training can go on from it; start a new one with --init PATH"
            ) from error
        self.epoch = state["epoch"]

    def run_epoch(self) -> dict:
        """Train one epoch; returns its line."""
        started = time.perf_counter()
        number = self.epoch + 1
        seed_everything(self.seed, number)
        if hasattr(self.loader, "set_epoch"):
            self.loader.set_epoch(number)
        self.objective.start_epoch(number)
        self.model.train()
        sums = torch.zeros(4, dtype=torch.float64, device=self.device)  # images, loss, hits, hits
        steps = len(self.loader)
        self.schedule.step_update(self.epoch * steps)
        bar = tqdm(
            self.loader,
            total=steps,
            desc=f"epoch {number}/{self.epochs}",
            leave=False,
            disable=None if is_main() else True,
        )
        for step, (images, labels) in enumerate(bar, 1):
            sums += self._step(images.to(self.device), labels.to(self.device))
            done = self.epoch * steps + step
            if self.averaging is not None:
                self.averaging.update(self.model, step=done)
            if step < steps and not self.schedule_per_epoch:
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
        line = {
            "epoch": self.epoch,
            "split": "validation",
            "loss": found["loss"],
            "top1": found["top1"],
            "top5": found["top5"],
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": time.perf_counter() - started,
        }
        self._log(line)
        return line

    def _step(self, images, labels) -> torch.Tensor:
        images, target = self.objective.mix(images, labels)
        autocast = (
            torch.autocast(self.device.type, self.amp)
            if self.amp is not None
            else contextlib.nullcontext()
        )
        if self.spike_weight and self.spike_cost is None:
            self.spike_cost = SpikeCost(self.model, images, self.spike_weight)
        with autocast:
            output = self.forward(images)
        output = output.float() if self.amp is not None else output
        loss = self.objective.loss(output, target)
        if self.spike_cost is not None:
            loss = loss + self.spike_cost.loss()
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
            return torch.stack(
                [
                    loss.new_tensor(count, dtype=torch.float64),
                    loss.detach().double() * count,
                    hits[0].double(),
                    hits[1].double(),
                ]
            )

    def _check_finite(self, loss_sum: float, epoch: int, step: int) -> None:
        if not math.isfinite(loss_sum):
            raise TrainingDivergedError(
                f"the training loss is {loss_sum} in epoch {epoch} at step {step}; lower --lr, "
                "raise TRAIN.WARMUP_FRACTION, or clip harder with TRAIN.CLIP_GRAD"
            )

    def _line(self, sums: torch.Tensor, seconds: float) -> dict:
        names = ("images", "loss", "first", "five")
        total = sum_over_processes(dict(zip(names, sums.tolist(), strict=True)))
        mixed = self.objective.mixes
        return {
            "epoch": self.epoch,
            "split": "train",
            "loss": total["loss"] / total["images"],
            "top1": None if mixed else 100 * total["first"] / total["images"],
            "top5": None if mixed else 100 * total["five"] / total["images"],
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": seconds,
        }

    def _log(self, line: dict) -> None:
        top1 = "-" if line["top1"] is None else f"{line['top1']:.2f} %"
        logger.info(
            "epoch %d/%d  %s loss %.4f  top-1 %s  learning rate %.2e  %.1f s",
            line["epoch"],
            self.epochs,
            line["split"],
            line["loss"],
            top1,
            line["learning_rate"],
            line["seconds"],
        )


def _averaging(model: nn.Module, decay: float | None):
    """timm's moving average of the weights, if a decay is given."""
    if not decay:
        return None
    from timm.utils import ModelEmaV3

    return ModelEmaV3(model, decay=decay, use_warmup=True)
