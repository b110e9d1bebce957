"""Other people's transformers in narrow versions with ReLU: what their code does is followed."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.models.swin_transformer import (
    PatchMergingV2,
    SwinTransformer,
    SwinTransformerBlockV2,
)

from spikeswap.convert import UnconvertibleError, convert_model, insert_qcfs


def swin(**arguments):
    return SwinTransformer(
        patch_size=[4, 4],
        embed_dim=8,
        depths=[1, 2],
        num_heads=[2, 2],
        window_size=[4, 4],
        num_classes=5,
        **arguments,
    )


def vit(**arguments):
    return VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=16,
        depth=2,
        num_heads=2,
        num_classes=5,
        **arguments,
    )


NETWORKS = {  # torchvision hides its window attention with fx.wrap and assigns parts of tensors
    "torchvision swin": swin,
    "torchvision swin v2": lambda: swin(
        block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2
    ),
    "timm vit": vit,
    "timm vit, normed q and k, no class token": lambda: vit(
        qk_norm=True, init_values=0.1, class_token=False, global_pool="avg"
    ),
}


def with_relu(model):
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GELU):
                setattr(module, name, nn.ReLU())
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_with_relu_it_converts_exactly(name, quantised, relative_error):
    images = torch.randn(2, 3, 32, 32, dtype=torch.double)
    model = with_relu(NETWORKS[name]())
    nn.init.normal_(model.head.weight)
    qcfs = quantised(model, images, levels=16, example_inputs=images)
    fine = quantised(model, images, levels=2**20, example_inputs=images)
    assert relative_error(fine(images), model(images)) < 1e-4
    snn = convert_model(qcfs, neuron="multi")
    assert len(snn.sites) == (2 if "vit" in name else 3)
    readout = snn(images, timesteps=20)
    assert relative_error(readout[-1], qcfs(images)) < 1e-9
    assert relative_error(readout[0], qcfs(images)) > 1e-6


@pytest.mark.parametrize("name", NETWORKS)
def test_as_it_is_every_gelu_is_listed_with_its_line(name):
    with pytest.raises(UnconvertibleError) as caught:
        insert_qcfs(NETWORKS[name](), example_inputs=torch.randn(1, 3, 32, 32))
    assert len(caught.value.offences) == (2 if "vit" in name else 3)
    for offence in caught.value.offences:
        assert offence.operation == "GELU" and "ReLU" in offence.remedy
        file, line = offence.source
        assert ("timm" if "vit" in name else "torchvision") in file
        assert "(" in open(file).read().splitlines()[line - 1]
