"""`python -m spikeswap NAME [flags]`."""

from spikeswap.commands.main import main

if __name__ == "__main__":
    main()
