"""The entry of every command: `spikeswap NAME`, `python -m spikeswap NAME`, `python tools/NAME.py`."""

import importlib
import sys

from ..support.messages import near_names
from .cli import USER_ERROR, run_command

COMMANDS = {
    "train": "train a network with QCFS activations",
    "train-direct": "train a spiking network directly, or its rival with ReLU",
    "convert": "turn a trained network into a spiking one",
    "eval": "evaluate runs side by side and write the report",
    "bench": "measure speed and memory",
    "export": "write a conversion for another simulator or chip, and grade it there",
    "frontier": "try many conversions on images set apart, and name the cheapest good one",
    "demo": "the report of a network that comes with the package, in seconds",
    "env": "print the versions that a bug report needs",
}


def run(name: str) -> None:
    """Run one command with the flags in `sys.argv[1:]`."""
    module = importlib.import_module(f".{name.replace('-', '_')}", __package__)
    run_command(module.command, module.parser())


def main() -> None:
    """`spikeswap NAME [flags]`."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print("usage: spikeswap NAME [flags]; each NAME has --help")
        for known, text in COMMANDS.items():
            print(f"  {known:<14}{text}")
        return
    if name not in COMMANDS:
        print(
            f"spikeswap: error: unknown command {name!r}; {near_names(name, COMMANDS)}",
            file=sys.stderr,
        )
        sys.exit(USER_ERROR)
    sys.argv[:2] = [f"spikeswap {name}"]
    run(name)
