"""The audit: what each operation reads, what that costs, and one honest share."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.counting.flow import flows
from spikeswap.counting.provenance import Kind


def carries_spikes(graph):
    return {node for node, flow in flows(graph).items() if flow.kind is Kind.SPIKES}


class Net(nn.Module):
    """Image convolution, one on spikes, one on pooled spikes, linear on spikes, head on a mean."""

    def __init__(self):
        super().__init__()
        self.image, self.act1 = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
        self.spikes, self.act2 = nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False), nn.ReLU()
        self.pooled, self.act3 = nn.Conv2d(6, 6, 1, bias=False), nn.ReLU()
        self.linear, self.head = nn.Linear(6, 8), nn.Linear(6, 5)

    def forward(self, x):
        x = self.act2(self.spikes(self.act1(self.image(x))))
        x = self.act3(self.pooled(F.avg_pool2d(x, 2)))
        tokens = self.linear(x.flatten(2).transpose(1, 2))
        return self.head(x.mean((2, 3)) + tokens.mean((1, 2)).unsqueeze(1))


SPIKES = {"if": "spikes {0,s}", "stbif": "signed spikes", "multi": "multi-level spikes"}


@pytest.fixture(params=list(SPIKES))
def snn(request):
    return convert_model(insert_qcfs(Net().eval(), levels=8, threshold=1.0), neuron=request.param)


def rows_by_name(snn):
    return {row.name: row for row in snn.report.rows}


def test_what_each_weight_layer_reads(snn):
    rows, spikes = rows_by_name(snn), SPIKES[snn.info["neuron"]]
    assert [rows[n].input for n in ("image", "spikes", "pooled", "linear", "head")] == [
        "analog",
        spikes,
        "analog",
        spikes,
        "analog",
    ]
    assert [rows[n].arithmetic for n in ("image", "spikes", "pooled", "linear", "head")] == [
        "multiply-accumulate",
        "accumulate",
        "multiply-accumulate",
        "accumulate",
        "multiply-accumulate",
    ]
    assert rows["image"].when == "once an image"
    assert {rows[n].when for n in ("spikes", "pooled", "linear", "head")} == {"every step"}


def test_counts_are_the_closed_forms(snn):
    assert rows_by_name(snn)["image"].count is None and not snn.report.counted
    snn(torch.randn(2, 3, 8, 8), timesteps=1)
    rows = rows_by_name(snn)
    assert rows["image"].count == 4 * 8 * 8 * 3 * 9
    assert rows["spikes"].count == 6 * 8 * 8 * 2 * 9  # two groups
    assert rows["pooled"].count == 6 * 4 * 4 * 6
    assert rows["linear"].count == 16 * 6 * 8
    assert rows["head"].count == 6 * 5


def test_share_of_spike_driven_operations_over_all_steps(snn):
    snn(torch.randn(1, 3, 8, 8), timesteps=1)
    spiking, analog, once = 6 * 64 * 18 + 16 * 48, 6 * 16 * 6 + 30, 4 * 64 * 27
    for steps in (1, 50):
        snn.info["timesteps"] = steps
        snn._report = None
        total = steps * (spiking + analog) + once
        assert snn.report.spike_driven_share == pytest.approx(steps * spiking / total)


def test_all_that_is_not_spiking_is_named(snn):
    names = {row.operation for row in snn.report.not_spiking}
    assert {"Conv2d", "Linear", "mean", "add"} <= names
    (pool,) = [row for row in snn.report.rows if "pool" in row.operation]
    assert pool.input == SPIKES[snn.info["neuron"]] and pool.arithmetic == "other"
    text = str(snn.report)
    assert "3 activation sites" in text and "2 of 5 weight layers see spikes" in text
    assert 4 <= len(text.splitlines()) <= 6


def test_the_report_as_a_dictionary(snn):
    snn(torch.randn(1, 3, 8, 8), timesteps=1)
    report = snn.report.as_dict()
    assert {"name", "operation", "input", "arithmetic", "when", "count"} <= report["rows"][0].keys()
    assert 0 < report["spike_driven_share"] < 1 and isinstance(report["converges"], str)


def test_asking_for_the_report_changes_no_result(snn):
    x = torch.randn(2, 3, 8, 8)
    before = snn(x, timesteps=4, chunk=2)
    assert str(snn.report)
    assert torch.equal(snn(x, timesteps=4, chunk=2), before)


def spiking_names(forward, **modules):
    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
            self.head = nn.Linear(4, 5)
            for name, module in modules.items():
                self.add_module(name, module)

        def forward(self, x):
            return self.head(forward(self, self.act(self.conv(x))).mean((2, 3)))

    snn = convert_model(insert_qcfs(Body().eval(), levels=8, threshold=1.0))
    return {node.name for node in carries_spikes(snn.network)}


def test_what_hands_spikes_on_and_what_does_not():
    moved = spiking_names(lambda net, x: torch.roll(x, 1, 2).movedim(1, 3).permute(0, 3, 1, 2))
    assert {"act", "roll", "movedim", "permute"} <= moved
    joined = spiking_names(lambda net, x: torch.cat([x, x.flip(2)], 1)[:, :4])
    assert {"flip", "cat", "getitem"} <= joined
    masked = convert_model(insert_qcfs(Net().eval(), mask=0.5))
    assert any("mask" in n.name for n in carries_spikes(masked.network))
    for analog in (
        lambda net, x: x + x,
        lambda net, x: x * 0.5,
        lambda net, x: F.avg_pool2d(x, 2),
        lambda net, x: F.max_pool2d(x, 2),
        lambda net, x: x.softmax(1),
    ):
        assert spiking_names(analog) == {"act"}


def test_attention_products_of_running_values_are_multiply_accumulates():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.act = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()

        def forward(self, x):
            q, k = self.act(self.q(x)), self.act(self.k(x))
            return (q @ k.transpose(1, 2)).softmax(-1).mean(1)

    model = insert_qcfs(Attention().eval(), levels=8, threshold=1.0)
    for attention, arithmetic in (
        ("accumulated", "multiply-accumulate"),
        ("per-step", "accumulate"),
    ):
        snn = convert_model(model, attention=attention)
        snn(torch.randn(2, 5, 4), timesteps=1)
        (row,) = [r for r in snn.report.rows if r.operation == "matmul"]
        assert row.arithmetic == arithmetic and row.count == 5 * 5 * 4
