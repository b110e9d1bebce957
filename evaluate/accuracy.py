"""Exact counts of right answers at every time step."""

import torch
from torch import Tensor

from ..distributed import sum_over_processes


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

    def add(self, readout: Tensor, labels: Tensor, ann_answer: Tensor | None = None) -> None:
        """One batch.

        Args:
            readout: [T, B, K], or [B, K] as one step.
            labels: [B] class numbers.
            ann_answer: [B], the ANN's classes.
        """
        readout = readout if readout.dim() == 3 else readout.unsqueeze(0)
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
        if ann_answer is not None:
            self.agree += (answer == ann_answer.to(answer.device)).sum(1).cpu()
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
