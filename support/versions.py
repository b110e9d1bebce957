"""Versions that a result depends on."""

import platform
from importlib import metadata

import torch


def versions() -> dict[str, str]:
    """Versions of spikeswap, PyTorch and Python."""
    try:
        ours = metadata.version("spikeswap")
    except metadata.PackageNotFoundError:  # used from a folder on the path, not installed
        ours = "not installed"
    return {"spikeswap": ours, "torch": str(torch.__version__), "python": platform.python_version()}
