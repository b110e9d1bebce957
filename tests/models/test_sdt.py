"""Spike-driven Transformer: attention in both modes, shortcuts, variants that cannot be built."""

import pytest
import torch
from torch import nn

from spikeswap.models import create_model
from spikeswap.models.direct import spiking_neuron
from spikeswap.models.sdt import Mlp, SpikeDrivenAttention


def make_neuron(threshold=1.0):
    return spiking_neuron("lif", 2.0, threshold)


def small(**more):
    torch.manual_seed(0)
    return create_model("sdt", embed_dim=32, depth=2, img_size=16, **{"num_heads": 4, **more})


def dilate(plane):
    """3x3 maximum of a binary `[rows, columns]`, border cut off, by its definition."""
    out = torch.zeros_like(plane)
    rows, columns = plane.shape
    for r in range(rows):
        for c in range(columns):
            out[r, c] = plane[max(0, r - 1) : r + 2, max(0, c - 1) : c + 2].max()
    return out


@pytest.mark.parametrize("dvs_mode", [False, True])
@torch.no_grad()
def test_attention_is_the_published_formula(dvs_mode):
    dim, heads, width, side, steps = 8, 2, 4, 3, 3
    attention = SpikeDrivenAttention(dim, heads, dvs_mode, make_neuron).eval()
    for name in "qkv":
        getattr(attention, f"{name}_conv").weight.mul_(9)
    seen = {}
    for name in ("q_lif", "k_lif", "v_lif", "proj_conv"):
        getattr(attention, name).register_forward_hook(
            lambda m, args, out, name=name: seen.update({name: (args[0], out)})
        )
    attention(3 * torch.rand(steps, 1, dim, side, side))
    membrane = torch.zeros(dim)
    fired = 0
    for t in range(steps):
        q, k, v = (seen[f"{name}_lif"][1][t, 0] for name in "qkv")  # [D, H, W]
        if dvs_mode:
            k, v = (torch.stack([dilate(plane) for plane in x]) for x in (k, v))
        for head in range(heads):
            rows = slice(head * width, (head + 1) * width)
            kv = (k[rows] * v[rows]).flatten(1).T  # [N, d]
            if dvs_mode:
                kv = dilate(kv)
            charged = membrane[rows] + (kv.sum(0) - membrane[rows]) / 2
            gate = (charged >= 0.5).float()
            membrane[rows] = charged * (1 - gate)
            y = q[rows].flatten(1).T * gate
            if dvs_mode:
                y = dilate(y)
            received = seen["proj_conv"][0][t, rows].flatten(1).T
            assert torch.equal(received, y)
            fired += float(y.sum())
    assert fired > 0


@torch.no_grad()
def test_heads_matter_in_dvs_mode_only():
    images = 3 * torch.randn(2, 3, 16, 16)
    for dvs_mode in (False, True):
        two, four = (small(num_heads=h, dvs_mode=dvs_mode).eval() for h in (2, 4))
        weights = {k: v for k, v in two.state_dict().items() if "talking_heads" not in k}
        four.load_state_dict(weights, strict=False)
        for model in (two, four):
            for module in model.modules():
                if isinstance(module, nn.Conv2d):
                    module.weight.mul_(20)
        assert torch.equal(two(images), four(images)) != dvs_mode


@torch.no_grad()
def test_inner_shortcut_of_an_mlp_that_keeps_its_width():
    mlp = Mlp(4, 4, make_neuron).eval()
    x = 3 * torch.randn(2, 1, 4, 2, 2)
    mlp.fc2_conv.weight.zero_()
    inner = mlp.fc1_bn(mlp.fc1_conv(make_neuron()(x).flatten(0, 1))).unflatten(0, (2, 1))
    bias = mlp.fc2_bn(mlp.fc2_conv.bias[None, :, None, None])
    torch.testing.assert_close(mlp(x), x + inner + bias)


def test_plif_adds_one_number_a_neuron():
    lif, plif = small().state_dict(), small(neuron="plif").state_dict()
    extra = [key for key in plif if key not in lif]
    assert len(extra) == 22
    assert all(key.endswith(".w") and plif[key] == 0 for key in extra)
    model = small(neuron="plif").train()
    model(3 * torch.randn(2, 3, 16, 16)).sum().backward()
    unused = {name for name, p in model.named_parameters() if p.grad is None}
    assert unused == set(model.unused_keys())
    assert model.parameter_counts()["all"] - model.parameter_counts()["used"] == 2 * 16 + 3


@torch.no_grad()
def test_plif_at_its_start_is_lif():
    lif, plif = small().eval(), small(neuron="plif").eval()
    plif.load_state_dict(lif.state_dict(), strict=False)
    images = 3 * torch.randn(2, 3, 16, 16)
    assert torch.equal(lif(images), plif(images))


def test_dvs_variant_reads_two_polarities_over_ten_steps():
    model = create_model("sdt_2_256_dvs")
    assert (model.timesteps, model.img_size, model.tet) == (10, 64, True)
    assert model.patch_embed.proj_conv.in_channels == 2


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"num_heads": 7}, "num_heads may be 1, 2"),
        ({"img_size": 18}, "16 or 20"),
        ({"pooling_stat": "011"}, "four digits"),
        ({"pooling_stat": 11}, "four digits"),
        ({"pooling_stat": [0, 0, 1, 1]}, "four digits"),
        ({"pooling_stat": "1111", "img_size": 40}, "32 or 48"),
        ({"neuron": "alif"}, "did you mean"),
        ({"depth": 0}, "depth is 0"),
        ({"embed_dim": 36, "num_heads": 4}, "32 or 40"),
    ],
)
def test_impossible_variants_say_what_is_possible(overrides, message):
    with pytest.raises(ValueError, match=message):
        create_model("sdt", **overrides)
