"""How far a spiking network's outputs are from those of the network itself, at every time step."""

import math

from torch import Tensor

from ..distributed import sum_over_processes
from ..support.choices import TASKS
from .accuracy import Accuracy
from .records import Record

_SUMS = ("error", "size", "values", "agree", "places")


class Comparison:
    """Adds up batches of outputs, each [T, B, ...], beside what the network itself gives, [B, ...].

    Args:
        errors: compare values.
        classes: compare the largest of the classes at each place, too: axis 1 of [B, C, H, W], the
            last axis of [B, N, C] and [B, C].
        confidence: of early exit, which only a classifier has.
    """

    def __init__(self, errors: bool, classes: bool, confidence: float | None = None):
        if confidence is not None:
            raise ValueError(f"early_exit={confidence} goes with task='classify' only")
        self.errors, self.classes = errors, classes
        self.images = 0
        self.steps: int | None = None
        self.sums: dict[str, list] = {name: [] for name in _SUMS}

    def add(self, outputs: list[Tensor], labels, reference: list[Tensor] | None) -> None:
        """One batch; an ANN's outputs [B, ...] are those of one step.

        Args:
            reference: what the network itself gives; None if it is not known.
        """
        if reference is not None and not self.errors:
            reference = None
        self.steps = self.steps or len(outputs[0])
        self.images += outputs[0].shape[1]
        if reference is None:
            return
        shapes = [tuple(x.shape[1:]) for x in outputs], [tuple(x.shape) for x in reference]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"the model gives {shapes[0]} and ann {shapes[1]}; give the network that it was "
                "converted from"
            )
        for name in _SUMS:
            self.sums[name] = self.sums[name] or [0] * self.steps
        for t in range(self.steps):
            for output, target in zip(outputs, reference, strict=True):
                found = self._of_one(output[t], target.to(output.device))
                for name, number in zip(_SUMS, found, strict=True):
                    self.sums[name][t] += number

    def _of_one(self, output: Tensor, target: Tensor) -> tuple:
        """Squared error, squared size, values; agreeing places, places."""
        error = (output.double() - target.double()).square().sum()
        size = target.double().square().sum()
        agree = places = 0
        if self.classes and target.dim() > 1:
            axis = 1 if target.dim() > 3 else -1
            same = output.argmax(axis) == target.argmax(axis)
            agree, places = int(same.sum()), same.numel()
        return float(error), float(size), target.numel(), agree, places

    def reduce(self) -> None:
        """Sums over all processes; a process without images takes part, too."""
        steps = sum_over_processes({"steps": self.steps or 0, "busy": int(self.images > 0)})
        if steps["busy"]:
            self.steps = steps["steps"] // steps["busy"]
        compared = sum_over_processes({"compared": len(self.sums["error"])})["compared"]
        numbers: dict = {"images": self.images}
        for name, row in self.sums.items():
            for t in range(self.steps or 0) if compared else ():
                numbers[f"{name}/{t}"] = row[t] if row else 0
        numbers = sum_over_processes(numbers)
        self.images = numbers.pop("images")
        for name in self.sums if compared else ():
            self.sums[name] = [numbers[f"{name}/{t}"] for t in range(self.steps or 0)]

    def put(self, record: Record, kind: str, agreed: bool) -> None:
        """Fill in what a record says of it."""
        record.images = self.images
        for key in ("top1", "top5", "top1_by_timestep", "top5_by_timestep"):
            record.put(key, None, f"task {record.task!r} has no right and wrong answers")
        error, size, values, agree, places = (self.sums[name] for name in _SUMS)
        why = "this is the ANN" if kind == "ann" else "no ANN was given to compare with"
        why = why if self.errors else f"task {record.task!r} compares nothing"
        relative = [_ratio(e, s) for e, s in zip(error, size, strict=True)]
        record.error_by_timestep = relative or None
        record.rms_error_by_timestep = [
            math.sqrt(e / max(1, n)) for e, n in zip(error, values, strict=True)
        ] or None
        record.put("error_to_ann", relative[-1] if relative else None, why)
        share = [100.0 * a / n for a, n in zip(agree, places, strict=True) if n]
        record.agreement_by_timestep = share or None
        why = why if self.classes or not self.errors else f"task {record.task!r} has no classes"
        record.put("agreement_with_ann", share[-1] if share else None, why)

    def notes(self) -> list[str]:
        return []


def _ratio(error: float, size: float) -> float | None:
    """Relative error of squared norms; None where the network itself gives zeros and the other not."""
    if size == 0:
        return 0.0 if error == 0 else None
    return math.sqrt(error / size)


TASKS["classify"] = Accuracy
TASKS["dense"] = lambda confidence: Comparison(True, True, confidence)
TASKS["regression"] = lambda confidence: Comparison(True, False, confidence)
TASKS["counts"] = lambda confidence: Comparison(False, False, confidence)
