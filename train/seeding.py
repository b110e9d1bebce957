"""Random numbers of a training that depend on seed, epoch and process alone.

Each epoch starts all generators anew, so a training that was stopped after an epoch and goes on
later draws what it would have drawn without the stop, on any number of loader workers.
"""

import contextlib
import random

import numpy as np
import torch

from ..distributed import rank
from ..support.whole_numbers import whole_number


def seed_everything(seed: int, epoch: int = 0) -> None:
    """Start torch's (CPU and CUDA), numpy's and Python's global generators.

    Args:
        seed: whole number of at least 0.
        epoch: number of the epoch that begins; each epoch and process gets its own numbers.

    Raises:
        ValueError: the seed is negative or no whole number.
    """
    seed = whole_number("seed", seed, least=0, hint=", e.g. 0")
    words = np.random.SeedSequence([seed, epoch, rank()]).generate_state(3)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))
    random.seed(int(words[2]))


@contextlib.contextmanager
def deterministic_convolutions():
    """Let cuDNN choose only algorithms that give the same bits again; restored afterwards."""
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before
