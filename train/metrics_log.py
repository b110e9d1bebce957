"""metrics.jsonl: one line per epoch and split; TensorBoard beside it if asked."""

import json
from pathlib import Path

from ..support.atomic import CannotWriteError, write_file
from ..support.metrics_file import FIELDS, read_metrics


class MetricsLog:
    """Appends epochs to a file.

    Args:
        path: runs/NAME/metrics.jsonl.
        after_epoch: keep the lines of epochs 1 to this one (a training that goes on), drop later
            ones, whose weights were never saved; 0 starts anew.
        tensorboard: also write event files to the folder `tensorboard` beside it.
    """

    def __init__(self, path: Path, after_epoch: int = 0, tensorboard: bool = False):
        self.path = Path(path)
        kept = [line for line in read_metrics(self.path) if line["epoch"] <= after_epoch]
        write_file(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.writer = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # optional, slow to import

            self.writer = SummaryWriter(
                str(self.path.parent / "tensorboard"), purge_step=after_epoch + 1
            )

    def append(self, line: dict) -> None:
        """Add one line; it must have every field of `FIELDS` (None where there is no value)."""
        line = {field: line[field] for field in FIELDS}
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise CannotWriteError(self.path, error) from error
        if self.writer is not None:
            for field in ("loss", "top1", "top5", "learning_rate"):
                if line[field] is not None:
                    self.writer.add_scalar(f"{line['split']}/{field}", line[field], line["epoch"])

    def close(self) -> None:
        """Close the event file, if there is one."""
        if self.writer is not None:
            self.writer.close()
