"""The independence check flags what leaks, and nothing else."""

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.evaluate import evaluate
from spikeswap.models import create_model


def test_time_folded_into_the_batch_is_flagged(leaking, loader):
    record = evaluate(leaking, loader)
    assert record["batch_independent"].startswith("no: ")
    assert "alone" in record["batch_independent"]
    assert any("depend on the batch" in note for note in record["notes"])


def test_statistics_of_the_batch_are_flagged(images, labels):
    class BatchNormed(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(16, 3)

        def forward(self, x):
            x = x.flatten(1)
            return self.head(x - x.mean(0))

    assert "alone" in evaluate(BatchNormed(), [(images, labels)])["batch_independent"]


def test_state_that_outlives_a_call_is_flagged(images, labels):
    class Forgetful(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.calls = nn.Linear(16, 3), 0

        def forward(self, x):
            self.calls += 1
            return self.head(x.flatten(1)) + 0.1 * self.calls

    assert "two equal calls" in evaluate(Forgetful(), [(images, labels)])["batch_independent"]


def test_order_dependence_is_flagged(images, labels):
    class Positional(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(16, 3)

        def forward(self, x):
            return self.head(x.flatten(1)) + torch.arange(len(x))[:, None]

    assert "another order" in evaluate(Positional(), [(images, labels)])["batch_independent"]


def test_sound_networks_raise_no_alarm(ann, direct, loader):
    assert evaluate(ann, loader)["batch_independent"] is True
    assert evaluate(direct, loader)["batch_independent"] is True
    assert evaluate(ann, loader, check_independence=False)["batch_independent"] is None


@pytest.mark.parametrize("name", ["swin_nano_bn", "resnet20"])
@pytest.mark.parametrize("kind", ["if", "multi"])
def test_converted_networks_with_masks_raise_no_alarm(name, kind):
    network = create_model(name, num_classes=4, img_size=16, in_chans=1)
    network.train()
    network(torch.rand(8, 1, 16, 16))
    ann = insert_qcfs(network, levels=4, threshold=1.0, mask=0.5).eval()
    images, labels = torch.rand(5, 1, 16, 16), torch.arange(5) % 4
    for model in (ann, convert_model(ann, neuron=kind)):
        record = evaluate(model, [(images, labels)], timesteps=6, count=False)
        assert record["batch_independent"] is True


def test_a_model_that_cannot_be_copied_is_checked_as_it_is(images, labels):
    class Handle:
        def __deepcopy__(self, memo):
            raise TypeError("cannot be copied")

    class Leaking(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.handle = nn.Linear(16, 3), Handle()
            self.fire = neuron.LIFNode(step_mode="m", v_threshold=0.1)

        def forward(self, x, timesteps=3):
            spikes = self.fire(x.flatten(1).repeat(timesteps, 1))  # [T * B] read as time
            return self.head(spikes).view(timesteps, len(x), 3)

    text = evaluate(Leaking(), [(images, labels)])["batch_independent"]
    assert text.startswith("no: ")
    assert "own precision" in text
