"""The run folder of a training: claimed at its start, one checkpoint and some lines per epoch."""

import contextlib
import shutil
from pathlib import Path

from ..configs import save_config
from ..distributed import from_main, is_main
from ..support.versions import versions
from ..train import (
    CannotWriteError,
    MetricsLog,
    claim_run_folder,
    point_latest,
    save_checkpoint,
)
from . import setting_up
from .cli import say


class RunKeeper:
    """The run folder: claimed when training starts, removed if no epoch was ever saved."""

    def __init__(self, arguments, cfg, bundle, build, kind, resumed):
        self.cfg, self.best = cfg, None
        self.head = {
            "kind": kind,
            "build": build,
            "config": setting_up.plain_dict(cfg),
            "data": setting_up.describe_data(bundle),
            "versions": versions(),
        }
        self.fresh = resumed is None
        if resumed is not None:
            self.folder, self.best = resumed[0], resumed[1].get("best")
            done, planned = resumed[1]["epoch"], resumed[1].get("epochs")
            epochs = cfg.TRAIN.EPOCHS + cfg.TRAIN.COOLDOWN_EPOCHS
            say(
                f"going on with {self.folder} after epoch {done} of {epochs}"
                + (
                    f" (planned were {planned}: the learning rate follows the new plan from here)"
                    if planned != epochs
                    else ""
                )
            )
        else:
            self.folder = Path(
                from_main(self._claim(arguments, cfg, bundle) if is_main() else None)
            )
        if resumed is not None and is_main():
            self.metrics = self._log(resumed[1]["epoch"])

    def _claim(self, arguments, cfg, bundle) -> str:
        root = Path(arguments.output)
        self.made_root = not root.exists()
        self.folder = claim_run_folder(root, setting_up.stem_of(arguments.cfg, bundle.name))
        file = self.folder / "config.yaml"
        try:
            save_config(cfg, file)
            self.metrics = self._log(0)
        except OSError as error:
            self.clean_up()
            if isinstance(error, CannotWriteError):
                raise
            raise CannotWriteError(file, error) from error
        return str(self.folder)

    def _log(self, after_epoch: int) -> MetricsLog:
        tensorboard = bool(self.cfg.TRAIN.get("TENSORBOARD", False))
        return MetricsLog(self.folder / "metrics.jsonl", after_epoch, tensorboard)

    def after_epoch(self, training, lines: list[dict]) -> None:
        """Write the epoch's lines, last.pt, and best.pt if a validation part says so."""
        for line in lines:
            self.metrics.append(line)
        found = lines[-1] if lines[-1]["split"] == "validation" else None
        better = found is not None and (self.best is None or found["top1"] > self.best["top1"])
        if better:
            self.best = {"epoch": found["epoch"], "top1": found["top1"]}
        content = {**training.state(), **self.head, "epochs": training.epochs, "best": self.best}
        save_checkpoint(self.folder / "checkpoints" / "last.pt", content)
        if better:
            save_checkpoint(self.folder / "checkpoints" / "best.pt", content)
        if self.fresh:
            point_latest(self.folder)
            self.fresh = False

    def clean_up(self) -> None:
        """Remove a run folder in which no checkpoint was ever written."""
        if is_main() and self.fresh and not (self.folder / "checkpoints" / "last.pt").exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            if self.made_root:
                with contextlib.suppress(OSError):
                    self.folder.parent.rmdir()
