"""Exact counts of right answers at every time step."""

import torch
from torch import Tensor

from ..distributed import sum_over_processes
from .records import Record


class Accuracy:
    """Adds up batches of logits [B, K] or readouts [T, B, K] as whole numbers.

    Args:
        confidence: early exit: an image stops at the first step whose softmax reaches this.
    """

    def __init__(self, confidence: float | None = None):
        self.confidence = confidence
        self.images = 0
        self.steps: int | None = None
        self.classes: int | None = None
        self.right1: Tensor | None = None  # int64 [T]
        self.right5: Tensor | None = None
        self.agree: Tensor | None = None
        self.exit_steps = self.exit_right = 0
        self.labels: set[int] = set()

    def add(self, outputs: list[Tensor], labels: Tensor, ann: list[Tensor] | None = None) -> None:
        """One batch.

        Args:
            outputs: one readout [T, B, K].
            labels: [B] class numbers.
            ann: the ANN's logits [B, K].
        """
        (readout,) = outputs
        steps, batch, classes = readout.shape
        if self.right1 is None:
            zeros = torch.zeros(steps, dtype=torch.int64)
            self.steps, self.classes = steps, classes
            self.right1, self.right5, self.agree = zeros, zeros.clone(), zeros.clone()
        if (steps, classes) != (self.steps, self.classes):
            raise ValueError(
                f"the model returns {steps} steps x {classes} classes for one batch "
                f"and {self.steps} x {self.classes} for another; they must be equal"
            )
        check_labels(labels, classes, self.images)
        labels = labels.to(readout.device)
        answer = readout.argmax(-1)  # [T, B]
        self.right1 += (answer == labels).sum(1).cpu()
        top = readout.topk(min(5, classes), dim=-1).indices
        self.right5 += ((top == labels[:, None]).any(-1) | (answer == labels)).sum(1).cpu()
        if ann is not None:
            self.agree += (answer == ann[0].argmax(-1).to(answer.device)).sum(1).cpu()
        if self.confidence is not None:
            self._early(readout, answer, labels)
        self.images += batch
        self.labels.update(labels.tolist())

    def _early(self, readout: Tensor, answer: Tensor, labels: Tensor) -> None:
        sure = readout.softmax(-1).amax(-1) >= self.confidence  # [T, B]
        sure[-1] = True
        first = sure.to(torch.int8).argmax(0)  # [B]
        self.exit_steps += int((first + 1).sum())
        self.exit_right += int((answer.gather(0, first[None])[0] == labels).sum())

    def reduce(self) -> None:
        """Exact sums over all processes; a process without images takes part, too."""
        shape = sum_over_processes(
            {
                "processes": 1,
                "busy": int(self.images > 0),
                "steps": self.steps or 0,
                "classes": self.classes or 0,
            }
        )
        if shape["busy"] == 0 or shape["processes"] == 1:
            return
        steps, classes = (shape[key] // shape["busy"] for key in ("steps", "classes"))
        if self.right1 is None:
            zeros = torch.zeros(steps, dtype=torch.int64)
            self.steps, self.classes = steps, classes
            self.right1, self.right5, self.agree = zeros, zeros.clone(), zeros.clone()
        numbers = {
            "images": self.images,
            "exit_steps": self.exit_steps,
            "exit_right": self.exit_right,
        }
        for name in ("right1", "right5", "agree"):
            numbers.update({f"{name}/{t}": int(v) for t, v in enumerate(getattr(self, name))})
        numbers.update({f"label/{k}": int(k in self.labels) for k in range(classes)})
        numbers = sum_over_processes(numbers)
        self.images = numbers["images"]
        self.exit_steps, self.exit_right = numbers["exit_steps"], numbers["exit_right"]
        for name in ("right1", "right5", "agree"):
            setattr(self, name, torch.tensor([numbers[f"{name}/{t}"] for t in range(steps)]))
        self.labels = {k for k in range(classes) if numbers[f"label/{k}"]}

    def put(self, record: Record, kind: str, agreed: bool) -> None:
        """Fill in what a record says of it."""
        top1, top5 = self.percent(self.right1), self.percent(self.right5)
        record.images, record.classes = self.images, self.classes
        record.top1, record.top5 = top1[-1], top5[-1]
        spiking = kind != "ann"
        record.put("top1_by_timestep", top1 if spiking else None, "an ANN has no time steps")
        record.put("top5_by_timestep", top5 if spiking else None, "an ANN has no time steps")
        agreement = self.percent(self.agree) if agreed else [None]
        reason = "no ANN was given to compare with" if spiking else "this is the ANN"
        record.put("agreement_with_ann", agreement[-1], reason)
        record.agreement_by_timestep = agreement if agreed and spiking else None
        if self.confidence is not None:
            record.early_exit = {
                "confidence": self.confidence,
                "average_timesteps": self.exit_steps / self.images,
                "top1": 100.0 * self.exit_right / self.images,
            }

    def notes(self) -> list[str]:
        """What a reader of the accuracy needs to know."""
        found = []
        if len(self.labels) == 1 and self.images > 1:
            found.append(
                f"all {self.images} images bear one label ({next(iter(self.labels))}): this accuracy "
                "says nothing about telling classes apart; evaluate images of several classes"
            )
        return found

    def percent(self, right: Tensor) -> list[float]:
        return [100.0 * int(n) / self.images for n in right]


def check_labels(labels: Tensor, classes: int, seen: int) -> None:
    """ValueError unless all labels are whole numbers of the model's classes."""
    if labels.is_floating_point() or labels.dim() != 1:
        raise ValueError(
            f"labels of type {labels.dtype} and shape {tuple(labels.shape)}; evaluate "
            "needs one whole class number per image"
        )
    outside = (labels < 0) | (labels >= classes)
    if bool(outside.any()):
        place = int(outside.nonzero()[0])
        raise ValueError(
            f"label {int(labels[place])} of image {seen + place} is outside the "
            f"model's {classes} classes (0 to {classes - 1}); the data and the model "
            "do not belong together"
        )
