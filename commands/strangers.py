"""A network of your own, by --timm, --torchvision or --model, as a run that can be converted."""

from pathlib import Path

import torch

from ..configs import get_config
from ..models.theirs import Theirs, classes_of, input_of, load_theirs
from ..support.versions import versions
from . import run_on_disk, setting_up
from .cli import say

DOORS = {"timm": "timm", "torchvision": "torchvision", "model": "function"}
CHECK_IMAGES = 64  # held-out images that the conversion is compared on


def door_of(arguments) -> str | None:
    """The flag that names a network of another library, or None.

    Raises:
        ValueError: several of them, or one beside a run.
    """
    given = [flag for flag in DOORS if getattr(arguments, flag) is not None]
    others = [flag for flag in ("run", "cfg") if getattr(arguments, flag) is not None]
    if len(given) > 1 or given and others:
        names = " and ".join(f"--{flag}" for flag in given + others)
        raise ValueError(f"{names} name two networks; give one of them")
    return given[0] if given else None


def open_stranger(arguments) -> run_on_disk.Run:
    """A run that is not on disk yet: the network, its weights, and what its inputs are."""
    flag = door_of(arguments)
    theirs = Theirs(DOORS[flag], getattr(arguments, flag), arguments.classes)
    if arguments.data is None:
        raise ValueError(
            f"--{flag} needs images to calibrate with; say --data imagefolder --data-path DIR "
            "(class folders, or images without labels), or another --data NAME"
        )
    model = load_theirs(theirs, arguments.weights, arguments.weights_prefix)
    build = {**input_of(theirs, model), "model": theirs.name, "source": theirs.source}
    if arguments.img_size:
        build["img_size"] = arguments.img_size
    for name in ("mean", "std"):
        if getattr(arguments, name) is not None:
            build[name] = getattr(arguments, name)
    build |= {"num_classes": classes_of(model, build), "overrides": {}, "levels": None, "mask": 0.0}
    overrides = ["DATA.NAME", arguments.data, "DATA.PATH", arguments.data_path or ""]
    cfg = get_config("", [*overrides, *_DEFAULTS])
    content = {
        **{"model": model.state_dict(), "model_ema": None, "optimizer": None, "scheduler": None},
        **{"epoch": 0, "epochs": 0, "kind": "own", "build": build},
        "config": setting_up.plain_dict(cfg),
        "weights": str(arguments.weights or f"{theirs.source}'s own"),
        "versions": versions(),
    }
    stem = theirs.name.replace(":", "-").replace("/", "-")
    folder = Path(arguments.output) / f"{stem}_{arguments.data}"
    run = _Stranger(folder, cfg, content, model)
    content["data"] = setting_up.describe_data(run.data(arguments.data, arguments.data_path))
    return run


# What a network that was never trained for spikes is converted with, if no flag says otherwise.
_DEFAULTS = ["CONVERT.NEURON", "multi", "CONVERT.TIMESTEPS", 32, "CONVERT.CALIBRATE", "thresholds"]


class _Stranger(run_on_disk.Run):
    """Such a run, whose network is at hand."""

    def __init__(self, folder, cfg, checkpoint, model):
        super().__init__(folder, cfg, checkpoint)
        self._model = model

    def network(self):
        return self._model


@torch.no_grad()
def say_comparison(snn, run, arguments, settings, device) -> None:
    """How often network and conversion agree on held-out images, and how often they are right."""
    data = run.data(arguments.data, arguments.data_path)
    split = data.split("val")
    count = min(CHECK_IMAGES, len(split))
    own, spiking, labels = [], [], []
    model = run.network().to(device)
    for first in range(0, count, 16):
        pairs = [split[i] for i in range(first, min(first + 16, count))]
        images = torch.stack([image for image, _ in pairs]).to(device)
        labels += [label for _, label in pairs]
        own.append(model(images))
        spiking.append(snn(images, timesteps=settings.timesteps)[-1])
    if run.build["num_classes"] is None:
        return
    ann, found = (torch.cat(parts).argmax(-1).cpu() for parts in (own, spiking))
    same = 100 * (ann == found).double().mean().item()
    say(f"on {count} held-out images at T = {settings.timesteps}: the same class as your network's "
        f"on {same:.4g} %")  # fmt: skip
    if labelled(run, data):
        truth = torch.tensor(labels)
        right = [100 * (x == truth).double().mean().item() for x in (ann, found)]
        say(f"top-1 there: your network {right[0]:.4g} %, the spiking network {right[1]:.4g} %")
    else:
        say(f"no accuracy: {data.name} does not have the {run.build['num_classes']} classes")


def labelled(run, data) -> bool:
    """Whether the labels of a data set can be those of the network."""
    return data.num_classes == run.build["num_classes"] and data.num_classes > 1
