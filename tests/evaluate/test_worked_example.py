"""The example of docs/energy.md, run: every number that the page works out by hand."""

from pathlib import Path

import pytest
import torch
from torch import nn

from spikeswap.evaluate import evaluate

PAGE = Path(__file__).resolve().parents[2] / "docs" / "energy.md"


class Given(nn.Module):
    """A neuron that sends given spikes, whatever it reads."""

    def __init__(self, *spikes):
        super().__init__()
        self.register_buffer("spikes", torch.stack(spikes))

    def forward(self, x, t):
        return (x * 0 + self.spikes[t] >= 1).to(x)


class Example(nn.Module):
    def __init__(self):
        super().__init__()
        maps = torch.zeros(2, 2, 4, 4)
        maps[0, 0, 1, 1] = maps[0, 1, 0, 0] = maps[1, 0, 1, 1] = 1
        hidden = torch.zeros(2, 3, 2, 2)
        hidden[1, 0, 0, 0] = hidden[1, 2, 1, 0] = 1
        self.image_layer = nn.Conv2d(1, 2, 3, padding=1)
        self.fire1 = Given(*maps)
        self.conv = nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False)
        self.fire2 = Given(*hidden)
        self.linear = nn.Linear(12, 2)

    def forward(self, images, timesteps=2):
        out = []
        for t in range(timesteps):
            x = self.fire1(self.image_layer(images), t)
            out.append(self.linear(self.fire2(self.conv(x), t).flatten(1)))
        return torch.stack(out)


def test_the_page_and_the_counter_agree():
    record = evaluate(Example(), [(torch.rand(1, 1, 4, 4), torch.zeros(1).long())])
    assert record["macs"] == 288
    assert {op["name"]: op["acs"] for op in record["layers"]} == {
        "image_layer": 0,
        "conv": 27,
        "linear": 4,
    }
    estimate = {op["name"]: op["rate_times_operations"] for op in record["layers"]}
    assert estimate["conv"] == 20.25
    assert record["acs"] == 31
    assert record["energy_millijoules"] == pytest.approx(1352.7e-9)
    assert record["spikes_per_synapse"] == 31 / 174
    energies = record["energies"]["45nm-fp32"]
    assert energies["quantised_millijoules"] == pytest.approx(1359.0e-9)
    assert record["energy_to_quantised"] == pytest.approx(1352.7 / 1359.0)
    text = PAGE.read_text(encoding="utf-8")
    for number in (
        "288 MACs",
        "27 ACs",
        "4 ACs",
        "20.25",
        "1352.7 pJ",
        "31 / 174 = 0.178",
        "1359.0 pJ",
        "0.995",
    ):
        assert number in text, number
