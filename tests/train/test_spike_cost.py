"""Training for fewer spikes: what the term of the loss counts, and that it works."""

import pytest
import torch
from torch import nn

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.evaluate import evaluate
from spikeswap.neurons import QCFS
from spikeswap.train import seed_everything, train_classifier
from spikeswap.train.spike_cost import SpikeCost


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3, stride=2)
        self.head = nn.Linear(6 * 9, 5)

    def forward(self, x):
        return self.head(self.b(self.a(x).relu()).relu().flatten(1))


def test_cost_is_the_sum_over_sites_of_spikes_times_what_they_reach():
    model = insert_qcfs(Net(), levels=16, threshold=1.0).train()
    images = torch.randn(3, 1, 10, 10)
    cost = SpikeCost(model, images, 0.5)
    # a: 8 x 8 pixels, each read by the 3 x 3 outputs of b's 6 channels, 9 taps an output
    assert cost.fan_out == {"relu": 6 * 9 * 9 / 64, "relu_1": 5}
    assert cost.operations == 6 * 9 * 4 * 9 + 6 * 9 * 5
    given = {}
    for name, site in model.named_modules():
        if isinstance(site, QCFS):
            site.register_forward_hook(lambda _m, _i, out, n=name: given.update({n: out}))
    model(images)
    expected = sum(
        torch.log2(1 + 16 * given[name].detach()).sum() / 3 * reached
        for name, reached in cost.fan_out.items()
    )
    loss = cost.loss()
    assert float(loss.detach()) == pytest.approx(0.5 * float(expected) / cost.operations, rel=1e-5)
    loss.backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in (model.a.weight, model.b.weight))


def test_masked_sites_cost_what_the_mask_lets_through():
    images = torch.randn(2, 1, 10, 10)
    whole = SpikeCost(insert_qcfs(Net()), images, 1.0).fan_out
    masked = SpikeCost(insert_qcfs(Net(), mask=0.75, mask_sites=["relu"]), images, 1.0).fan_out
    assert masked == {"relu": 0.25 * whole["relu"], "relu_1": whole["relu_1"]}


def test_nothing_is_collected_where_nothing_is_trained():
    model = insert_qcfs(Net())
    cost = SpikeCost(model, torch.randn(2, 1, 10, 10), 1.0)
    model.eval()(torch.randn(2, 1, 10, 10))
    with torch.no_grad():
        model.train()(torch.randn(2, 1, 10, 10))
    assert not cost._seen


def test_training_with_it_takes_fewer_accumulations():
    torch.manual_seed(0)
    images, labels = torch.rand(64, 1, 10, 10), torch.arange(64) % 5
    images += torch.eye(5)[labels].repeat(1, 20).view(-1, 1, 10, 10)
    batches = [(images[i : i + 16], labels[i : i + 16]) for i in range(0, 64, 16)]
    found = {}
    for weight in (0.0, 0.1):
        seed_everything(1)
        model = insert_qcfs(Net(), threshold=1.0)
        train_classifier(model, batches, epochs=15, lr=1e-2, spike_cost=weight)
        snn = convert_model(model.eval(), neuron="multi")
        found[weight] = evaluate(snn, batches, timesteps=8)
    assert found[0.1]["acs"] < 0.8 * found[0.0]["acs"]
    assert found[0.1]["top1"] >= found[0.0]["top1"] - 10


def test_impossible_costs_are_refused():
    batches = [(torch.rand(4, 1, 10, 10), torch.tensor([0, 1, 2, 3]))]
    with pytest.raises(ValueError, match="spike cost -1 must be a number from 0 on"):
        train_classifier(insert_qcfs(Net()), batches, epochs=1, spike_cost=-1)
    with pytest.raises(ValueError, match="needs QCFS sites .* TRAIN.SPIKE_COST to 0"):
        train_classifier(Net(), batches, epochs=1, spike_cost=0.5)
