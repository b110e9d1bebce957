"""Models and images that nothing can be done with are refused in one sentence."""

import pytest
import torch
from torch import nn

from spikeswap.convert import convert_model, insert_qcfs


def network():
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 5))


@pytest.mark.parametrize(
    "shape", [(2, 1, 8, 8), (2, 3, 3, 3), (2, 5, 8, 8)], ids=["one channel", "too small", "five"]
)
def test_images_that_do_not_fit_are_told_so(shape):
    snn = convert_model(insert_qcfs(network()))
    with pytest.raises(ValueError, match="do not fit"):
        snn(torch.randn(shape), timesteps=2)
    assert snn(torch.randn(4, 3, 8, 8), timesteps=2).shape == (2, 4, 5)


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
