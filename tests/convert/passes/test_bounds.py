"""lower_thresholds_to_bounds: what reads a softmax needs no threshold above 1."""

import torch
from torch import nn

from spikeswap.convert import clipped, convert_model, insert_qcfs
from spikeswap.convert.passes.bounds import lower_thresholds_to_bounds
from spikeswap.graph import trace
from spikeswap.neurons import QCFS


class Attention(nn.Module):
    """Activated queries and scores on [B, N, C], scores behind a softmax."""

    def __init__(self, threshold=2.0):
        super().__init__()
        self.lin, self.head = nn.Linear(6, 6), nn.Linear(6, 3)
        self.q, self.scores = QCFS(16, threshold), QCFS(16, threshold)
        self.softmax = nn.Softmax(-1)

    def forward(self, x):
        q = self.q(self.lin(x))
        scores = self.scores(self.softmax(q @ q.transpose(1, 2)).contiguous())
        return self.head((scores @ q).mean(1))


def test_only_the_site_behind_the_softmax_is_lowered():
    graph = trace(Attention())
    assert lower_thresholds_to_bounds(graph) == 1
    assert graph.scores.threshold.tolist() == [1.0] and graph.q.threshold.tolist() == [2.0]


def test_nothing_to_do_changes_nothing():
    for model in (Attention(0.7), nn.Sequential(nn.Linear(6, 4), QCFS(16, 3.0))):
        graph = trace(model)
        before = {k: v.clone() for k, v in graph.state_dict().items()}
        assert lower_thresholds_to_bounds(graph) == 0
        assert all(torch.equal(v, before[k]) for k, v in graph.state_dict().items())


def test_the_clipped_network_is_the_same_and_is_reached_sooner():
    torch.manual_seed(0)
    model = Attention().double().eval()
    x = torch.randn(8, 5, 6, dtype=torch.double)
    target = clipped(model)(x).detach()
    graph = trace(model)
    lower_thresholds_to_bounds(graph)
    torch.testing.assert_close(clipped(graph)(x), target, rtol=0, atol=1e-14)
    snn = convert_model(model)
    assert snn.sites["scores"].threshold.tolist() == [1.0]
    found = snn(x, timesteps=64)[-1]
    snn.sites["scores"].neuron.threshold.fill_(2.0)
    assert (found - target).norm() < 0.9 * (snn(x, timesteps=64)[-1] - target).norm()


def test_several_users_and_channels_keep_what_is_lower():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 4, 1), QCFS(8, torch.tensor([0.5, 1.0, 2.0, 4.0]), 1)

        def forward(self, x):
            y = self.act(torch.sigmoid(self.conv(x)))
            return y + y.flatten(2).mean(-1)[:, :, None, None]

    graph = trace(Gate())
    assert lower_thresholds_to_bounds(graph) == 1
    assert graph.act.threshold.tolist() == [0.5, 1.0, 1.0, 1.0]


def test_exact_neurons_and_the_published_way_keep_the_trained_thresholds():
    model = insert_qcfs(AttentionOfReLU(), levels=16, threshold=2.0).eval()
    for arguments in ({"neuron": "multi"}, {"attention": "per-step"}):
        assert convert_model(model, **arguments).sites["scores"].threshold.tolist() == [2.0]


class AttentionOfReLU(Attention):
    def __init__(self):
        super().__init__()
        self.q, self.scores = nn.ReLU(), nn.ReLU()
