"""The published MST layout and its quirks (numbers: test_published.py)."""

import pytest
import torch
from torch import nn

from spikeswap.convert import insert_qcfs
from spikeswap.models import create_model


def small(**overrides):
    return create_model(
        "mst",
        **{
            "num_classes": 5,
            "img_size": 16,
            "in_chans": 1,
            "patch_size": 2,
            "embed_dim": 8,
            "depths": (2, 1),
            "num_heads": (2, 2),
            "window_size": 4,
            **overrides,
        },
    )


def test_only_the_imagenet_variant_has_norms_in_the_mlp():
    names = {
        dataset: {name for name, _ in small(dataset=dataset).named_modules() if ".mlp.norm" in name}
        for dataset in ("imagenet", "cifar")
    }
    assert len(names["imagenet"]) == 6 and not names["cifar"]
    with pytest.raises(ValueError, match="imagenet.*cifar"):
        small(dataset="cifar10")


def test_the_mlp_shortcut_starts_behind_the_second_norm():
    block = small().layers[0].blocks[0].eval()
    nn.init.constant_(block.norm2.weight, 3.0)
    for parameter in (
        *block.attn.proj.parameters(),
        *block.mlp.fc2.parameters(),
        *block.mlp.norm2.parameters(),
    ):
        nn.init.zeros_(parameter)  # both branches give nothing
    x = torch.randn(2, 64, 8)
    torch.testing.assert_close(block(x), block.norm2(x))


def test_merging_and_the_last_norm_stay_analog():
    model = small()
    graph = insert_qcfs(model)
    for node in graph.graph.nodes:
        if node.target == "layers.0.downsample.reduction":
            assert node.args[0].target == "layers.0.downsample.norm"
    assert isinstance(model.norm, nn.LayerNorm)
    assert sum(isinstance(m, nn.LayerNorm) for m in model.modules()) == 1


def test_a_grid_no_larger_than_the_window_is_not_shifted():
    masks = [block.attn_mask for stage in small().layers for block in stage.blocks]
    assert [m is not None for m in masks] == [False, True, False]
    assert set(masks[1].unique().tolist()) == {-100.0, 0.0}


def test_sites_and_mask_sites():
    model = small()
    assert sum(isinstance(m, nn.ReLU) for m in model.modules()) == 1 + 3 * 10 + 1
    assert len(model.mask_sites) == 9
    assert all(name.endswith(("q_if", "k_if", "attn_if")) for name in model.mask_sites)
