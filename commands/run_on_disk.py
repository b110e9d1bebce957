"""A run on disk, opened: its folder, config and checkpoint."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ..configs import get_config
from ..train import checkpoint_of, find_run, load_checkpoint, restore_network
from . import setting_up


@dataclass
class Run:
    """One run.

    Attributes:
        folder: runs/NAME.
        cfg: its frozen config.
        checkpoint: that of its last epoch (see `spikeswap.train.load_checkpoint`).
    """

    folder: Path
    cfg: object
    checkpoint: dict

    @property
    def kind(self) -> str:
        """ "qcfs" (to be converted), "own" (the same, of another library), "direct" (spikes
        already) or "ann"."""
        return self.checkpoint.get("kind", "qcfs")

    @property
    def converts(self) -> bool:
        """Whether it holds a network that is converted, and not one that is evaluated as it is."""
        return self.kind in ("qcfs", "own")

    @property
    def build(self) -> dict:
        return self.checkpoint["build"]

    def network(self) -> nn.Module:
        """The trained network, in eval mode."""
        try:
            return restore_network(self.checkpoint)
        except ValueError as error:
            raise ValueError(f"run {self.folder}: {error}") from error

    def data(self, name: str | None = None, path: str | None = None, img_size: int | None = None):
        """The run's data set (or another one), prepared for its network."""
        return setting_up.open_data(
            self.cfg,
            img_size=img_size or self.build["img_size"],
            in_chans=self.build["in_chans"],
            name=name,
            path=path,
            mean=self.build.get("mean"),
            std=self.build.get("std"),
            labels=self.kind != "own",
        )


def open_run(path: str | None, root: str = "runs") -> Run:
    """The run folder that is meant (default: the latest of `root`), read.

    Raises:
        ValueError: no run, no checkpoint, or one that cannot be read.
    """
    folder = find_run(Path(path) if path is not None else None, Path(root))
    checkpoint = load_checkpoint(checkpoint_of(folder))
    file = folder / "config.yaml"
    if file.is_file():
        cfg = get_config(str(file))
    else:
        cfg = get_config(
            "",
            {
                f"{group}.{key}": value
                for group, values in checkpoint["config"].items()
                for key, value in values.items()
            },
        )
    return Run(folder, cfg, checkpoint)
