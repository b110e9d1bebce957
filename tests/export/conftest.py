"""Small networks to export, and how they are converted."""

import types

import pytest
import torch
from torch import nn

from spikeswap.convert import convert_model

T = 12


class Block(nn.Module):
    """Two branches, one of them grouped, joined by a sum and a concatenation."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False)
        self.point = nn.Conv2d(8, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU()
        self.down = nn.Conv2d(16, 6, 3, stride=2, padding=1)
        self.act2 = nn.ReLU()
        self.pool = nn.AvgPool2d(2)
        self.hidden = nn.Linear(24, 9)
        self.head = nn.Linear(9, 5)

    def forward(self, x):
        x = self.first(2 * x - 0.5)
        y = self.act(self.norm(self.point(x) + self.grouped(x) + 0.5 * x))
        z = self.act2(self.down(torch.cat((x, y), 1)))
        z = self.pool(z).flatten(1)
        return self.head(torch.relu(self.hidden(z)))


class LinearBottlenecks(nn.Module):
    """Sums without an activation behind them, as MobileNetV2 has, and one average over the image."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.wide = nn.ModuleList(nn.Conv2d(4, 8, 1) for _ in range(3))
        self.acts = nn.ModuleList(nn.ReLU6() for _ in range(3))
        self.thin = nn.ModuleList(nn.Conv2d(8, 4, 1) for _ in range(3))
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = self.stem(x)
        for wide, act, thin in zip(self.wide, self.acts, self.thin, strict=True):
            x = x + thin(act(wide(x)))
        return self.head(x.mean((2, 3)))


def converted(model, thresholds="per channel", levels=8, size=8, channels=2):
    """A conversion in float64, its norms moved, its thresholds from images."""
    torch.manual_seed(0)
    model = model.double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.3, 0.3)
    images = torch.rand(6, channels, size, size, dtype=torch.float64)
    snn = convert_model(
        model,
        neuron="if",
        calibration=[images],
        method="max",
        levels=levels,
        per_channel=thresholds == "per channel",
        mask=0,
    )
    return snn, images


@pytest.fixture(scope="module")
def small():
    """`Block`, `LinearBottlenecks`, `converted` and T, for all tests of this folder."""
    return types.SimpleNamespace(
        Block=Block, LinearBottlenecks=LinearBottlenecks, converted=converted, T=T
    )


@pytest.fixture(scope="module")
def network():
    """A conversion of `Block` in float32, and images."""
    snn, images = converted(Block())
    return snn.float(), images.float()
