"""Published or foreign weights as a run, so that they convert and evaluate like one of ours."""

import contextlib
import shutil
from pathlib import Path

import torch

from ..calibrate import activation_thresholds
from ..configs import get_config, save_config
from ..models import is_direct, load_published
from ..neurons import QCFS
from ..support.versions import versions
from ..train import (
    build_network,
    claim_run_folder,
    plain_network,
    point_latest,
    save_checkpoint,
    with_sites,
)
from . import run_on_disk, setting_up
from .cli import say


def open_weights(arguments) -> run_on_disk.Run:
    """A run that is not on disk yet: the recipe's network with the weights in the file."""
    overrides = [] if arguments.data is None else ["DATA.NAME", arguments.data]
    cfg = get_config(arguments.cfg, overrides)
    bundle = setting_up.open_data(cfg, path=arguments.data_path)
    if is_direct(cfg.MODEL.NAME):
        return _direct_run(arguments, cfg, bundle)
    build = setting_up.describe_build(cfg, bundle)
    network = build_network(build)
    start = {name: module.threshold.clone() for name, module in _sites(network)}
    load_published(network, arguments.weights)
    if all(torch.equal(start[name], module.threshold) for name, module in _sites(network)):
        network = _with_thresholds(build, bundle, cfg, arguments)
    return _run(arguments, cfg, bundle, network, "qcfs", build)


def _direct_run(arguments, cfg, bundle) -> run_on_disk.Run:
    """Weights of a network that spikes already; what its checkpoint carries in vain is named."""
    build = setting_up.describe_direct(cfg, bundle)
    network = build_network(build)
    unused = load_published(network, arguments.weights)
    counts = network.parameter_counts()
    used = "" if counts["used"] == counts["all"] else f", {counts['used']:,} of them used"
    say(f"{build['model']}: {counts['all']:,} parameters{used}")
    if unused:
        shown = ", ".join(unused[:3]) + (f" and {len(unused) - 3} more" if len(unused) > 3 else "")
        say(f"in the checkpoint and never used: {shown}")
    return _run(arguments, cfg, bundle, network, "direct", build)


def _run(arguments, cfg, bundle, network, kind: str, build: dict) -> run_on_disk.Run:
    content = {
        **{"model": network.state_dict(), "model_ema": None, "optimizer": None, "scheduler": None},
        **{"epoch": 0, "epochs": 0, "kind": kind, "build": build},
        "config": setting_up.plain_dict(cfg),
        "weights": str(arguments.weights),
        "versions": versions(),
        "data": setting_up.describe_data(bundle),
    }
    folder = Path(arguments.output) / setting_up.stem_of(arguments.cfg, bundle.name)
    return run_on_disk.Run(folder, cfg, content)


def _sites(network) -> list:
    return [(name, m) for name, m in network.named_modules() if isinstance(m, QCFS)]


def _with_thresholds(build: dict, bundle, cfg, arguments):
    """The same weights; each threshold is the largest activation on training images."""
    count = arguments.calibration_images or cfg.CONVERT.CALIBRATION_IMAGES
    say(f"the weights hold no thresholds: taking them from {count} training images")
    plain = plain_network(build)
    load_published(plain, arguments.weights)
    images = setting_up.training_images(bundle, count, cfg.CONVERT.SEED)
    thresholds = activation_thresholds(plain.eval(), images.split(50))
    return with_sites(plain, build, thresholds)


@contextlib.contextmanager
def run_folder(run: run_on_disk.Run):
    """Give such a run its folder, checkpoint and config; removed again if the block fails."""
    folder = claim_run_folder(run.folder.parent, run.folder.name)
    try:
        save_config(run.cfg, folder / "config.yaml")
        save_checkpoint(folder / "checkpoints" / "last.pt", run.checkpoint)
        yield run_on_disk.Run(folder, run.cfg, run.checkpoint)
        point_latest(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
