"""The quantised twin: nonzero activations times their fan-out, each way that it is read."""

import pytest
import torch
from spikingjelly.activation_based import neuron as spikingjelly
from torch import nn

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.counting import NodeCounter, OperationCounter, settle
from spikeswap.models import create_model
from spikeswap.neurons import NEURONS
from spikeswap.snn.ideal import ideal_neurons


def run(model, images, steps, twin, spiking=True, **more):
    counter = OperationCounter(model, spiking, twin)
    with torch.no_grad(), counter.attached():
        with counter.forward(images, steps) as marked:
            model(marked, **more)
        counter.close(len(images), steps)
    return settle(counter.ledger, spiking)


def own_twin(snn, images):
    """A converted network with ideal neurons, run for one step."""
    counter = NodeCounter(snn, twin=True)
    with counter.attached(), ideal_neurons(snn, quantised=True, masks="expectation"):
        with counter.forward(images) as marked:
            snn(marked, timesteps=1)
        counter.close(len(images), 1)
    return settle(counter.ledger, spiking=False)


def test_an_ann_counts_its_nonzero_activations():
    ann = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    images = torch.rand(4, 1, 4, 4)
    hidden = ann[:3](images)
    for batches in (1, 2):  # the counts of several batches add up
        counter = OperationCounter(ann, False, "activations")
        with torch.no_grad(), counter.attached():
            for part in images.split(4 // batches):
                with counter.forward(part) as marked:
                    ann(marked)
                counter.close(len(part), None)
        totals = settle(counter.ledger, False)
        assert totals.image_macs == 4 * 9 * 2
        assert totals.twin_operations == int((hidden != 0).sum()) * 3 / 4


class Direct(nn.Module):
    """Four neurons that fire never, once, twice, at each of four steps."""

    def __init__(self, step_mode):
        super().__init__()
        self.fire = spikingjelly.IFNode(v_threshold=1.0, v_reset=None, step_mode=step_mode)
        self.head = nn.Linear(4, 5, bias=False)

    def forward(self, x):
        if self.fire.step_mode == "m":
            return self.head(self.fire(x.unsqueeze(0).repeat(4, 1, 1)))
        return torch.stack([self.head(self.fire(x)) for _ in range(4)])


@pytest.mark.parametrize("step_mode", ["m", "s"])
def test_rates_over_the_run(step_mode):
    image = torch.tensor([[0.1, 0.25, 0.5, 1.0]])
    totals = run(Direct(step_mode), image, 4, "rates")
    assert totals.acs == (0 + 1 + 2 + 4) * 5
    assert totals.twin_operations == 3 * 5


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("mask", [0.0, 0.5])
@pytest.mark.parametrize("name, size", [("resnet20", 8), ("swin_nano_bn", 16)])
def test_a_conversion_has_the_activations_of_its_qcfs_network(name, size, mask, neuron):
    swin = {"embed_dim": 12, "depths": (1, 1), "num_heads": (2, 2), "window_size": 2}
    overrides = {} if name == "resnet20" else swin
    network = create_model(name, num_classes=4, img_size=size, in_chans=1, **overrides)
    network.train()
    network(torch.rand(8, 1, size, size))
    ann = insert_qcfs(network, levels=4, threshold=1.0, mask=mask).eval().double()
    images = torch.rand(3, 1, size, size, dtype=torch.double)
    exact = run(ann, images, None, "activations", spiking=False)
    twin = own_twin(convert_model(ann, neuron=neuron), images)
    assert twin.twin_operations == exact.twin_operations > 0
    assert twin.image_macs == exact.image_macs


def test_without_a_known_time_axis_the_twin_is_not_made_up():
    class Unknown(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            return self.head((torch.rand(8, 3) > 0.5).float())

    totals = run(Unknown(), torch.rand(2, 3), 4, "rates")
    assert totals.twin_operations is None
    assert "time axis" in totals.twin_unknown
