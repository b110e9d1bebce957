"""Print the versions that a result, or a bug report, depends on."""

import importlib.metadata
import platform

from . import cli

PACKAGES = ("torch", "torchvision", "timm", "spikingjelly", "numpy", "safetensors")


def parser() -> cli.Parser:
    """All flags."""
    return cli.Parser(__doc__)


def command(arguments) -> None:
    """One line for each package, then the device."""
    import torch

    from ..support.versions import versions

    for name, version in versions().items():
        cli.say(f"{name:<14}{version}")
    for name in PACKAGES[1:]:
        cli.say(f"{name:<14}{importlib.metadata.version(name)}")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    cli.say(f"{'platform':<14}{platform.platform()}, {torch.get_num_threads()} threads, GPU: {gpu}")
