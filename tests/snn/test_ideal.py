"""Ideal neurons: the network's own QCFS twin in one step, its limit in every step, no trace left."""

import pytest
import torch
from torch import nn

from spikeswap.convert import convert_model, insert_qcfs, reference_network
from spikeswap.neurons import NEURONS, SpikingNeuron
from spikeswap.snn.ideal import ideal_neurons


class Net(nn.Module):
    """Convolutions, a max-pool, a gate and a product of two streams, with biases."""

    def __init__(self):
        super().__init__()
        self.conv1, self.act1 = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
        self.conv2, self.act2 = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(4, 5)

    def forward(self, x):
        x = self.act1(self.conv1(x))
        y = self.act2(self.conv2(self.pool(x)) * x.mean((2, 3), keepdim=True).sigmoid() + 0.3)
        return self.head((y * self.pool(x)).mean((2, 3)))


@pytest.fixture
def images():
    return torch.randn(3, 3, 6, 6, dtype=torch.double)


@pytest.fixture(params=[0.0, 0.4])
def model(request):
    torch.manual_seed(0)
    return insert_qcfs(Net().double().eval(), levels=8, threshold=0.7, mask=request.param)


EQUAL = {"rtol": 0, "atol": 1e-12}


@pytest.mark.parametrize("neuron", NEURONS)
def test_one_step_is_the_qcfs_network(neuron, model, images):
    snn = convert_model(model, neuron=neuron)
    with ideal_neurons(snn, quantised=True, masks="expectation"):
        readout = snn(images, timesteps=1)
    torch.testing.assert_close(readout[0], model(images), **EQUAL)


@pytest.mark.parametrize("chunk", [1, 2, 3])
@pytest.mark.parametrize("neuron", NEURONS)
def test_from_the_second_step_on_it_is_what_the_network_tends_to(neuron, model, images, chunk):
    snn = convert_model(model, neuron=neuron, seed=3)
    expected = reference_network(snn, model)(images)
    with ideal_neurons(snn, quantised=not snn.coding.clips, uneven=True):
        readout = snn(images, timesteps=3, chunk=chunk)
    assert not torch.allclose(readout[0], expected, atol=1e-3)
    torch.testing.assert_close(readout[1:], expected.expand(2, -1, -1), **EQUAL)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("neuron", NEURONS)
def test_everything_is_as_before_afterwards(neuron, model, images, fails):
    snn = convert_model(model, neuron=neuron)
    first = snn(images, timesteps=5)
    attributes = {name: set(vars(module)) for name, module in snn.named_modules()}
    seen = []
    with snn.record() as recording, snn.observe(lambda node, *_: seen.append(node)):
        snn(images, timesteps=5)
        before, count = {name: spikes.clone() for name, spikes in recording.items()}, len(seen)
        clock, sizes = vars(snn.clock).copy(), dict(snn._largest)
        others = torch.randn(2, 3, 8, 8, dtype=torch.double)[:, : 2 if fails else 3]
        random = torch.get_rng_state()
        try:
            with ideal_neurons(snn, quantised=False, uneven=True):
                snn(others, timesteps=2)
        except ValueError:
            assert fails
        assert len(seen) == count and {*recording} == {*before}
        assert all(torch.equal(recording[name], spikes) for name, spikes in before.items())
        assert vars(snn.clock) == clock and snn._largest == sizes
        assert torch.equal(torch.get_rng_state(), random)
    assert {name: set(vars(module)) for name, module in snn.named_modules()} == attributes
    torch.testing.assert_close(snn(images, timesteps=5), first, **EQUAL)  # BLAS may round anew


def test_an_observer_inside_sees_the_neurons_themselves(images):
    snn = convert_model(insert_qcfs(Net().double().eval(), threshold=1.0))
    sent = {}

    def observe(node, module, args, kwargs, output, clock):
        if isinstance(module, SpikingNeuron):
            sent[node.target] = output

    with ideal_neurons(snn, quantised=True), snn.observe(observe):
        snn(images, timesteps=1)
    assert list(sent) == list(snn.sites)
    unit = snn.sites["act1"].threshold / snn.sites["act1"].levels
    assert torch.allclose(sent["act1"] / unit, (sent["act1"] / unit).round())


def test_a_step_wise_bias_is_left_out(model, images):
    snn = convert_model(
        model, calibration=[images], calibrate="bias-everywhere", calibration_steps=4
    )
    snn_of_thresholds = convert_model(model, calibration=[images])
    readouts = []
    for network in (snn, snn_of_thresholds):
        with ideal_neurons(network, quantised=False):
            readouts.append(network(images, timesteps=3))
    torch.testing.assert_close(*readouts, **EQUAL)
