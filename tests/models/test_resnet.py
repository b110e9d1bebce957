"""ResNets in the QCFS layout."""

import pytest
import torch
from torch import nn

from spikeswap.models import create_model


@pytest.mark.parametrize("name, sites", [("resnet18", 17), ("resnet20", 19), ("resnet34", 33)])
def test_number_of_activations(name, sites):
    with torch.device("meta"):
        model = create_model(name)
    assert sum(isinstance(m, nn.ReLU) for m in model.modules()) == sites


@pytest.mark.parametrize("size", [8, 15, 16])
def test_resolution_halves_in_every_stage_but_the_first(size):
    model = create_model("resnet18", widths=(4, 6, 8, 10)).eval()
    shapes = []
    for name in model.stages:
        getattr(model, name).register_forward_hook(lambda _m, _i, y: shapes.append(y.shape[1:]))
    model(torch.randn(1, 3, size, size))
    sides = [size, -(-size // 2), -(-size // 4), -(-size // 8)]
    assert shapes == [(w, s, s) for w, s in zip((4, 6, 8, 10), sides, strict=True)]


def test_there_is_no_max_pool_and_no_bias_in_convolutions():
    model = create_model("resnet20")
    assert not any(isinstance(m, nn.MaxPool2d) for m in model.modules())
    assert all(m.bias is None for m in model.modules() if isinstance(m, nn.Conv2d))


def test_mask_sites_are_the_inputs_of_blocks():
    model = create_model("resnet20", widths=(4, 4), depths=(2, 1))
    assert model.mask_sites == ["conv1.2", "conv2_x.0.act", "conv2_x.1.act"]
    modules = dict(model.named_modules())
    assert all(isinstance(modules[name], nn.ReLU) for name in model.mask_sites)
