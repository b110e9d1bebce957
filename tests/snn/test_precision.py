"""States and sums over time are at least float32: 256 spikes and one more are 257."""

import pytest
import torch
from torch import nn

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.neurons import NEURONS, Accumulate, Clock


class Net(nn.Module):
    """A stream and a running value (behind the max-pool), read by neurons."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.act, self.pool, self.head = nn.ReLU(), nn.MaxPool2d(2), nn.Linear(8, 5)

    def forward(self, x):
        x = self.act(self.first(x))
        return self.head(torch.relu(self.second(self.pool(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def qcfs():
    torch.manual_seed(0)
    return insert_qcfs(Net().eval(), levels=16, threshold=1.0)


@pytest.fixture(scope="module")
def images():
    return torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def error(found, expected):
    return ((found.float() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.half])
@pytest.mark.parametrize("neuron", NEURONS)
def test_a_network_of_low_precision(neuron, dtype, qcfs, images):
    expected = convert_model(qcfs, neuron=neuron)(images, timesteps=512)[-1]
    snn = convert_model(qcfs, neuron=neuron).to(dtype)
    assert error(snn(images.to(dtype), timesteps=512)[-1], expected) < 0.02


@pytest.mark.parametrize("neuron", NEURONS)
def test_a_call_under_autocast(neuron, qcfs, images):
    snn = convert_model(qcfs, neuron=neuron)
    expected = snn(images, timesteps=512)[-1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = snn(images, timesteps=512)[-1]
    assert 0 < error(found, expected) < 0.02


@pytest.mark.parametrize("coding", ["rate", "cumulative"])
def test_a_sum_of_many_steps(coding):
    accumulate, clock = Accumulate(coding), Clock(steps=300, batch=2)
    accumulate.clock = clock
    out = accumulate(torch.ones(600, 4, dtype=torch.bfloat16))
    assert out.dtype is torch.bfloat16
    assert accumulate.total.dtype is torch.float32 and (accumulate.total == 300).all()


def test_double_stays_double(qcfs, images):
    snn = convert_model(qcfs).double()
    assert snn(images.double(), timesteps=3).dtype is torch.float64
