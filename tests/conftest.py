"""What holds for every test: this clone is under test, one thread, fixed seeds, no shared cache."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

import spikeswap

CLONE = Path(__file__).resolve().parents[1]
_imported = Path(spikeswap.__file__).resolve().parent
assert _imported == CLONE, f"tests of {CLONE} imported {_imported}; run: pip install -e '.[dev]'"

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def fixed_seeds():
    """The same random numbers in every test, whichever ran before."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Unpacked and downloaded data go to a temporary folder, never to the user's cache."""
    monkeypatch.setenv("SPIKESWAP_CACHE", str(tmp_path_factory.mktemp("cache")))
