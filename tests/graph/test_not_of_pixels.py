"""What is made of sizes or of parameters alone is no activation site, however it is written."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import spikeswap
from spikeswap.convert import convert_model, insert_qcfs


class Positions(nn.Module):
    """Positions made of the image's size, kept in range, as indices of a table."""

    def __init__(self, within):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5)
        self.table = nn.Parameter(torch.randn(10, 4))
        self.within = within

    def forward(self, x):
        index = self.within(torch.arange(x.shape[2], device=x.device) - 2)
        rows = (F.one_hot(index, 10).to(x.dtype) @ self.table).t()
        return self.head(F.relu(self.conv(x) + rows[:, :, None]).mean((2, 3)))


class Kept(nn.Module):
    """A parameter that is kept from being negative."""

    def __init__(self, keep):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
        self.scale = nn.Parameter(torch.tensor([0.37, -1.0, 3.3, 0.9]).view(4, 1, 1))
        self.keep = keep

    def forward(self, x):
        return self.head((F.relu(self.conv(x)) * self.keep(self.scale)).mean((2, 3)))


WAYS = {
    "clamp": lambda x: x.clamp(min=0),
    "clamp_max": lambda x: x.clamp(0, 3),
    "clamp_min": lambda x: x.clamp_min(0),
    "relu": torch.relu,
    "module": nn.ReLU(),
}


@pytest.mark.parametrize("sites", ["relu", "all"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [Positions, Kept])
def test_such_values_stay_as_they_are(kind, way, sites, tmp_path):
    model, images = kind(WAYS[way]).double().eval(), torch.rand(2, 3, 8, 8).double()
    network = insert_qcfs(model, sites=sites, levels=2**20, threshold=8.0, example_inputs=images)
    with torch.no_grad():
        assert torch.allclose(network.eval()(images), model(images), atol=1e-4)
    snn = convert_model(model, neuron="multi", calibration=[images], sites=sites, levels=16)
    assert not {"clamp", "clamp_1", "within", "keep"} & set(snn.sites)
    readout = snn(images, timesteps=40)
    assert torch.allclose(readout[-1], readout[-2], atol=1e-12)
    snn.save(tmp_path / "snn")
    assert torch.equal(spikeswap.load(tmp_path / "snn")(images, timesteps=40), readout)
