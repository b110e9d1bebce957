"""Models and images that nothing can be done with are refused in one sentence."""

import pytest
import torch
from torch import nn

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.neurons import Timed


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
