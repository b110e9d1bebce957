"""What holds for every test: this clone, one thread, fixed seeds, no shared cache; toy models."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

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
def nothing_global_is_left_behind():
    """Gradients, the default type and autocast are after a test as before it."""
    yield
    left = torch.is_grad_enabled(), torch.get_default_dtype(), torch.is_autocast_enabled("cpu")
    torch.set_grad_enabled(True)
    assert left == (True, torch.float32, False)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Unpacked and downloaded data go to a temporary folder, never to the user's cache."""
    monkeypatch.setenv("SPIKESWAP_CACHE", str(tmp_path_factory.mktemp("cache")))


class Ann(nn.Module):
    """Two layers on 4x4 images, three classes."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 2, 3, padding=1), nn.Linear(32, 3)

    def forward(self, x):
        return self.head(self.conv(x).relu().flatten(1))


class Direct(nn.Module):
    """A SpikingJelly network that returns its running mean; with `leak`, time is folded into the
    batch in front of the neuron, so membranes run on from image to image."""

    def __init__(self, leak=False):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(64, 3)
        self.fire = neuron.LIFNode(step_mode="m", v_threshold=0.2)
        self.leak = leak
        self.resets = 0

    def reset(self):
        """Not SpikingJelly's: the evaluator must not call it."""
        self.resets += 1

    def forward(self, images, timesteps=4):
        x = self.conv(images).unsqueeze(0).repeat(timesteps, 1, 1, 1, 1)
        if self.leak:
            x = (
                self.fire(x.transpose(0, 1).flatten(0, 1))
                .view(len(images), timesteps, *x.shape[2:])
                .transpose(0, 1)
            )
        else:
            x = self.fire(x)
        steps = torch.arange(1, timesteps + 1).view(-1, 1, 1)
        return self.head(x.flatten(2)).cumsum(0) / steps


@pytest.fixture
def images():
    return torch.rand(10, 1, 4, 4)


@pytest.fixture
def labels():
    return torch.arange(10) % 3


@pytest.fixture
def loader(images, labels):
    return list(zip(images.split(4), labels.split(4), strict=True))


@pytest.fixture
def ann():
    return Ann()


@pytest.fixture
def direct():
    return Direct()


@pytest.fixture
def leaking():
    return Direct(leak=True)
