"""Names to models."""

import pytest
import torch
from torch import nn

from spikeswap.models import create_model, list_models
from spikeswap.models.registry import register


def test_known_names_are_listed_and_sorted():
    names = list_models()
    assert names == sorted(names)
    assert {
        "swin_t_bn",
        "swin_s_bn",
        "swin_nano_bn",
        "mst_swin_t",
        "resnet18",
        "resnet20",
        "resnet34",
        "vgg16",
    } <= set(names)


@pytest.mark.parametrize(
    "name, near",
    [("swin_t", "swin_t_bn"), ("resnet19", "resnet18"), ("vgg", "vgg16"), ("", "known")],
)
def test_an_unknown_name_lists_near_ones(name, near):
    with pytest.raises(ValueError, match=near):
        create_model(name)


def test_an_unknown_override_is_named():
    with pytest.raises(ValueError, match="embed_dims"):
        create_model("swin_t_bn", embed_dims=96)


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("resnet20", {"img_size": 12}),
        ("vgg16", {"img_size": 64, "hidden": 16}),
        ("swin_nano_bn", {"img_size": 16}),
        ("mst", {"img_size": 32, "embed_dim": 8, "depths": (1,), "num_heads": (1,)}),
    ],
)
@pytest.mark.parametrize("in_chans, num_classes", [(1, 3), (3, 7), (2, 10)])
def test_size_channels_and_classes(name, arguments, in_chans, num_classes):
    model = create_model(name, num_classes=num_classes, in_chans=in_chans, **arguments).eval()
    size = arguments["img_size"]
    assert model(torch.randn(2, in_chans, size, size)).shape == (2, num_classes)
    assert model.model_name == name
    assert not any(isinstance(m, nn.GELU) for m in model.modules())


def test_a_new_model_is_one_row():
    class Mine(nn.Linear):
        def __init__(self, img_size=8, in_chans=1, num_classes=10):
            super().__init__(img_size * in_chans, num_classes)

    register(Mine, test_only_model={"img_size": 4})
    assert create_model("test_only_model", num_classes=2, in_chans=3).weight.shape == (2, 12)
    with pytest.raises(AssertionError):
        register(Mine, test_only_model={})
