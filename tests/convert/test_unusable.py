"""Models and images that nothing can be done with are refused in one sentence."""

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from spikeswap.calibrate import activation_thresholds
from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.neurons import NEURONS, Timed


def network():
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 5))


@pytest.mark.parametrize(
    "shape", [(2, 1, 8, 8), (2, 3, 3, 3), (2, 5, 8, 8)], ids=["one channel", "too small", "five"]
)
def test_images_that_do_not_fit_are_told_so(shape):
    snn = convert_model(insert_qcfs(network()))
    with pytest.raises(ValueError, match="failed on images of size .*if they do not fit") as info:
        snn(torch.randn(shape), timesteps=2)
    assert str(info.value.__cause__) in str(info.value)
    assert snn(torch.randn(4, 3, 8, 8), timesteps=2).shape == (2, 4, 5)


class Breaks(nn.Module):
    """A leaf that fails at its third call if told to."""

    def __init__(self):
        super().__init__()
        self.calls, self.error = 0, None

    def forward(self, x):
        self.calls += 1
        if self.error is not None and self.calls > 2:
            raise self.error
        return x


@pytest.mark.parametrize("kind", [RuntimeError, KeyError])
def test_a_failure_leaves_no_state_behind(kind):
    net = network()
    net.add_module("leaf", Breaks())
    snn = convert_model(insert_qcfs(net, leaf_modules=["leaf"]), leaf_modules=["leaf"])
    x = torch.randn(2, 3, 8, 8)
    leaf = next(m for m in snn.modules() if isinstance(m, Breaks))
    leaf.calls, leaf.error = 0, kind("out of luck")
    with pytest.raises(kind, match="out of luck"):  # images of this size passed a step before
        snn(x, timesteps=6, chunk=1)
    neurons = [m for m in snn.modules() if isinstance(m, Timed)]
    kept = [v for m in neurons for v in vars(m).values() if isinstance(v, torch.Tensor)]
    assert not [v for v in kept if v.dim() == 4], "no membrane of the failed simulation is kept"
    assert (snn.clock.start, snn.clock.steps) == (0, 1)
    leaf.error = None
    again = snn(x, timesteps=6)
    assert torch.equal(again, snn(x, timesteps=6))


@pytest.mark.parametrize("seen", [False, True], ids=["new size", "known size"])
def test_a_failure_that_is_no_question_of_size_is_raised_as_it_is(seen):
    net = network()
    net.add_module("leaf", Breaks())
    snn = convert_model(insert_qcfs(net, leaf_modules=["leaf"]), leaf_modules=["leaf"])
    leaf = next(m for m in snn.modules() if isinstance(m, Breaks))
    if seen:
        snn(torch.randn(2, 3, 8, 8), timesteps=2)
    leaf.calls, leaf.error = 2, RuntimeError("the licence is missing")
    with pytest.raises(RuntimeError, match="^the licence is missing$"):
        snn(torch.randn(2, 3, 8, 8), timesteps=2)


class Bounded(nn.Module):
    """Bounds, a mask of scores and a key that no image has are infinite."""

    def __init__(self, parameter=False):
        super().__init__()
        self.embed, self.qk, self.v = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8), nn.Linear(8, 8)
        self.act, self.act_v, self.last = nn.ReLU(), nn.ReLU(), nn.ReLU()
        causal = torch.full((4, 4), -torch.inf).triu(1)
        if parameter:
            self.causal = nn.Parameter(causal, requires_grad=False)
        else:
            self.register_buffer("causal", causal)
        self.register_buffer("bound", torch.tensor(torch.inf))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.minimum(self.embed(x), self.bound).flatten(2).transpose(1, 2)
        q = self.act(self.qk(x))
        scores = (q @ q.transpose(1, 2) + self.causal).softmax(-1)
        return self.head(self.last(scores @ self.act_v(self.v(x))).mean(1))


@pytest.mark.parametrize("kind", NEURONS)
@pytest.mark.parametrize("parameter", [False, True])
def test_infinite_bounds_and_masks_are_no_damage(parameter, kind):
    torch.manual_seed(0)
    model, x = Bounded(parameter).double().eval(), torch.randn(2, 3, 8, 8).double()
    qcfs = insert_qcfs(model, example_inputs=x)
    readout = convert_model(qcfs, neuron=kind)(x, timesteps=200)
    assert ((readout[-1] - qcfs(x)).norm() / qcfs(x).norm()) < (0.1 if kind == "if" else 1e-9)


@pytest.mark.parametrize("where", ["0.weight", "5.bias", "1.running_var"])
def test_infinite_weights_and_statistics_are(where):
    net = network()
    net[1] = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())
    where = where.replace("1.r", "1.0.r")
    net.state_dict()[where].view(-1)[0] = torch.inf
    with pytest.raises(ValueError, match=rf"{where}: holds infinity.*another checkpoint"):
        insert_qcfs(net)


class ReadsSix(nn.Sequential):
    def forward(self, x):
        for layer in list(self)[:6]:
            x = layer(x)
        return x


def test_infinite_weights_that_nothing_reads_are_not():
    net = ReadsSix(*network(), nn.Linear(2, 2))
    net[6].weight.data.fill_(torch.inf)
    assert insert_qcfs(net)(torch.randn(2, 3, 8, 8)).shape == (2, 5)


def test_nan_is_refused_wherever_it_is():
    net = Bounded()
    net.causal[0, 1] = torch.nan
    with pytest.raises(ValueError, match="causal holds NaN"):
        insert_qcfs(net)


@pytest.mark.parametrize("call", [insert_qcfs, convert_model])
@pytest.mark.parametrize("node", [neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode])
def test_a_network_of_spikingjelly_spikes_already(call, node):
    layers = [nn.Conv2d(3, 4, 3), node(), nn.Flatten(), nn.Linear(144, 5)]
    with pytest.raises(ValueError, match="spiking network already") as caught:
        call(nn.Sequential(*layers))
    assert "\n" not in str(caught.value)


def test_conversion_inside_autocast_is_that_outside():
    torch.manual_seed(0)
    net, x = network().eval(), torch.randn(16, 3, 8, 8)

    def made():
        thresholds = activation_thresholds(net, [x])
        qcfs = insert_qcfs(net, thresholds=thresholds)
        fitted = convert_model(qcfs, calibration=[x], calibrate="bias", calibration_steps=4)
        plain = convert_model(net, calibration=[x], example_inputs=x)
        return [*thresholds.values(), *fitted.state_dict().values(), *plain.state_dict().values()]

    outside = made()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = made()
        assert torch.is_autocast_enabled("cpu")
    assert all(map(torch.equal, inside, outside))


@pytest.mark.parametrize("call", [insert_qcfs, convert_model])
def test_models_without_usable_weights_are_refused(call):
    with pytest.raises(ValueError, match="meta device"):
        call(network().to("meta"))
    with pytest.raises(ValueError, match="spiking network already"):
        call(convert_model(insert_qcfs(network())))
    with pytest.raises(ValueError, match="no model"):
        call("resnet18")


def test_a_calibration_that_cannot_be_read_is_refused():
    with pytest.raises(ValueError, match="iterable"):
        convert_model(network(), calibration=3)
