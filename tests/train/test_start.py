"""What a training starts from: weights, swaps, thresholds from data, networks of timm."""

import pytest
import torch
from torch import nn

from spikeswap.calibrate import activation_thresholds, swap_gelu, swap_norm
from spikeswap.convert import convert_model
from spikeswap.neurons import QCFS
from spikeswap.train import (
    build_network,
    load_checkpoint,
    plain_network,
    restore_network,
    save_checkpoint,
    start_network,
)

VIT = {
    "source": "timm",
    "model": "vit_tiny_patch16_224",
    "num_classes": 10,
    "img_size": 16,
    "in_chans": 1,
    "overrides": {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2},
    "levels": 8,
    "threshold": 0,
    "mask": 0.0,
    "sites": "all",
}


def images():
    return torch.rand(60, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def unused():
    raise AssertionError("no images are needed")


def sites_of(model):
    return {name: m for name, m in model.named_modules() if isinstance(m, QCFS)}


def test_a_network_of_timm_gets_thresholds_from_the_images_and_comes_back(tmp_path):
    torch.manual_seed(0)
    model = start_network(VIT, "", images)
    torch.manual_seed(0)
    expected = activation_thresholds(
        plain_network(VIT),
        images().split(50),
        method="mse",
        levels=8,
        per_channel=False,
        sites="all",
    )
    found = sites_of(model)
    assert model.training and found.keys() == expected.keys()
    assert all(torch.equal(site.threshold, expected[name]) for name, site in found.items())
    content = {"model": model.state_dict(), "build": VIT, "config": {}, "epoch": 1}
    save_checkpoint(tmp_path / "last.pt", content)
    again = restore_network(load_checkpoint(tmp_path / "last.pt"))
    assert torch.equal(again(images()), model.eval()(images()))
    snn = convert_model(again, neuron="multi")
    torch.testing.assert_close(
        snn(images()[:4], timesteps=30)[-1], again(images()[:4]), rtol=1e-4, atol=1e-5
    )


def test_weights_go_in_before_the_swaps_and_norms_see_the_images(tmp_path):
    plain = plain_network(VIT)
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    swapped = {**VIT, "swaps": ["norm", "gelu"]}
    model = start_network(swapped, str(tmp_path / "plain.pth"), images)
    assert not any(isinstance(m, (nn.LayerNorm, nn.GELU)) for m in model.modules())
    norms = swap_gelu(swap_norm(plain, images().split(50)))
    for name, statistics in norms.named_buffers():
        torch.testing.assert_close(model.get_buffer(name), statistics)
    assert model.state_dict().keys() == build_network(swapped).state_dict().keys()
    for name, weight in plain.named_parameters():
        assert torch.equal(model.get_parameter(name), weight), name


def test_a_run_of_ours_is_a_start_whose_thresholds_are_measured_again(tmp_path):
    model = start_network(VIT, "", images)
    torch.save(model.state_dict(), tmp_path / "qcfs.pth")
    again = start_network({**VIT, "levels": 4}, str(tmp_path / "qcfs.pth"), images)
    assert torch.equal(again.head.weight, model.head.weight)
    assert all(site.levels == 4 for site in sites_of(again).values())


def test_thresholds_that_are_given_need_no_images():
    model = start_network({**VIT, "threshold": 1.5}, "", unused)
    assert all(float(site.threshold) == 1.5 for site in sites_of(model).values())


@pytest.mark.parametrize(
    "build, init, words",
    [
        ({"source": "timm", "model": "vit_tinny"}, "", "timm has no model 'vit_tinny'; .*vit_tiny"),
        ({"overrides": {"pretrained": 1}}, "", "override pretrained = 1"),
        ({"overrides": {"img_size": "x"}}, "", "override img_size = 'x'"),
        ({"overrides": {"checkpoint_path": "x.pth"}}, "", "override checkpoint_path"),
        ({"swaps": ["norm"], "model": "resnet18", "overrides": {}}, "", "no nn.LayerNorm"),
    ],
)
def test_what_cannot_be_built_is_refused(build, init, words):
    with pytest.raises(ValueError, match=words):
        start_network({**VIT, **build}, init, images)


def test_only_a_library_has_pretrained_weights():
    ours = {k: v for k, v in VIT.items() if k != "source"} | {"model": "resnet18", "overrides": {}}
    with pytest.raises(ValueError, match="MODEL.SOURCE timm or torchvision"):
        start_network(ours, "pretrained", images)


@pytest.mark.parametrize(
    "build", [{"overrides": {"pretrained": True}}, {"swaps": ["nothing"]}, {"sites": "some"}]
)
def test_a_file_cannot_ask_for_more_than_sizes(build, tmp_path):
    model = build_network({**VIT, "threshold": 1.0})
    content = {"model": model.state_dict(), "build": {**VIT, **build}, "config": {}, "epoch": 1}
    save_checkpoint(tmp_path / "last.pt", content)
    with pytest.raises(ValueError, match="override|swaps|sites"):
        load_checkpoint(tmp_path / "last.pt")
