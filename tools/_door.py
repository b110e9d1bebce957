"""What every script in this folder does: run a command of the installed package."""

import sys
from pathlib import Path


def run(name: str) -> None:
    """Run a command with the flags in `sys.argv`; without the package, say how to install it."""
    try:
        from spikeswap.commands import main
    except ModuleNotFoundError as missing:
        folder, this = Path(__file__).resolve().parent.parent, Path(sys.argv[0]).name
        print(
            f"{this}: error: the module {missing.name!r} is not installed; install everything with: "
            f"{sys.executable} -m pip install -e '{folder}'",
            file=sys.stderr,
        )
        sys.exit(2)
    main.run(name)
