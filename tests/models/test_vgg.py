"""VGG-16 in the QCFS layout."""

import pytest
import torch
from torch import nn

from spikeswap.models import create_model


def small(**overrides):
    return create_model("vgg16", **{"stages": ((4, 4), (6,)), "hidden": 8, **overrides})


def test_sites_poolings_and_dropout():
    with torch.device("meta"):
        model = create_model("vgg16")
    count = lambda cls: sum(isinstance(m, cls) for m in model.modules())  # noqa: E731
    assert count(nn.ReLU) == 15 and count(nn.AvgPool2d) == 5 and count(nn.MaxPool2d) == 0
    assert count(nn.Dropout) == 15


@pytest.mark.parametrize("size", [4, 8, 20])
def test_sizes_that_the_poolings_divide(size):
    assert small(img_size=size).eval()(torch.randn(2, 3, size, size)).shape == (2, 10)


@pytest.mark.parametrize("size", [0, -4, 6, 33])
def test_other_sizes_name_near_ones(size):
    with pytest.raises(ValueError, match="multiple of 4.*near sizes"):
        small(img_size=size)


def test_mask_sites_are_the_inputs_of_blocks():
    model = small(stages=((4, 4), (6,), (6,)), img_size=8)
    assert model.mask_sites == ["layer1.6", "layer2.2"]
    modules = dict(model.named_modules())
    assert all(isinstance(modules[name], nn.ReLU) for name in model.mask_sites)


def test_dropout_is_off_in_evaluation():
    model, x = small(dropout=0.5, img_size=8), torch.randn(2, 3, 8, 8)
    assert torch.equal(model.eval()(x), model(x))
