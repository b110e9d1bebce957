"""Spikingformer: tokenizers, attention, time constants, variants that cannot be built."""

import pytest
import torch

from spikeswap.models import create_model
from spikeswap.models.spikingformer import SpikingSelfAttention, Tokenizer


def test_tokenizers_shrink_as_published():
    for kind, side, tokens in (("imagenet", 64, 4), ("dvs", 128, 8), ("cifar", 32, 8)):
        tokenizer = Tokenizer(kind, 3, 16, 2.0).eval()
        with torch.no_grad():
            assert tokenizer(torch.randn(2, 1, 3, side, side)).shape == (2, 1, 16, tokens, tokens)


@torch.no_grad()
def test_both_orders_of_the_attention_give_the_same():
    attention = SpikingSelfAttention(32, 4, 2.0, key_value_first=True).eval()
    for parameter in attention.parameters():
        parameter.mul_(3)
    x = 2 * torch.randn(3, 2, 32, 4, 4)
    first = attention(x)
    for module in attention.modules():
        if hasattr(module, "reset"):
            module.reset()
    attention.key_value_first = False
    assert torch.equal(attention(x), first)


@torch.no_grad()
def test_attention_is_the_formula_of_the_heads():
    torch.manual_seed(1)
    dim, heads, width, tokens = 8, 2, 4, 9
    attention = SpikingSelfAttention(dim, heads, 2.0, key_value_first=False).eval()
    for name in "qkv":
        getattr(attention, f"{name}_conv").weight.mul_(6)
    seen = {}
    for name in ("q_lif", "k_lif", "v_lif", "attn_lif"):
        getattr(attention, name).register_forward_hook(
            lambda m, args, out, name=name: seen.update({name: (args[0], out)})
        )
    attention(3 * torch.rand(1, 1, dim, 3, 3))
    q, k, v = (seen[f"{name}_lif"][1][0, 0] for name in "qkv")  # [D, N]
    received = seen["attn_lif"][0][0, 0]
    for channel in range(dim):
        head, index = channel // width, channel % width
        rows = slice(head * width, (head + 1) * width)
        for token in range(tokens):
            scores = q[rows, token] @ k[rows]  # over the channels of this head
            expected = 0.125 * (scores @ v[head * width + index])
            assert received[channel, token] == expected
    assert received.any()
    assert attention.attn_lif.v_threshold == 0.5


@torch.no_grad()
def test_dvs_differs_from_imagenet_in_its_time_constant_only():
    arguments = {"embed_dim": 32, "depth": 1, "num_heads": 4, "img_size": 32, "in_chans": 2}
    events = create_model("spikingformer", tokenizer="dvs", **arguments).eval()
    images = create_model("spikingformer", tokenizer="imagenet", tau=1.5, **arguments).eval()
    slower = create_model("spikingformer", tokenizer="imagenet", **arguments).eval()
    for name, parameter in events.named_parameters():
        parameter.mul_(5 if "conv" in name else 1)
    for other in (images, slower):
        other.load_state_dict(events.state_dict())
    frames = 3 * torch.randn(2, 5, 2, 32, 32)
    assert torch.equal(events(frames), images(frames))
    assert not torch.equal(events(frames), slower(frames))


def test_layer_norms_are_kept_and_never_used():
    model = create_model("spikingformer", embed_dim=32, depth=2, num_heads=4).train()
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    unused = {name for name, p in model.named_parameters() if p.grad is None}
    assert unused == set(model.unused_keys())
    counts = model.parameter_counts()
    assert counts["all"] - counts["used"] == 4 * 32 * 2


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"num_heads": 7}, "num_heads may be 1, 2"),
        ({"num_heads": 0}, "whole number of at least 1"),
        ({"embed_dim": 100, "num_heads": 4}, "96 or 104"),
        ({"img_size": 30}, "28 or 32"),
        ({"img_size": 40, "tokenizer": "imagenet"}, "32 or 48"),
        ({"tokenizer": "cifra"}, "did you mean cifar"),
        ({"depth": 0}, "depth is 0"),
        ({"mlp_ratio": 0}, "mlp"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio is nan"),
        ({"mlp_ratio": "4"}, "mlp_ratio is '4'"),
        ({"tau": 0.5}, "above 1"),
        ({"tau": float("inf")}, "finite"),
        ({"tau": "2"}, "tau is '2'"),
        ({"depth": True}, "depth is True"),
        ({"img_size": -16}, "img_size is -16"),
        ({"width": 3}, "takes no such override"),
    ],
)
def test_impossible_variants_say_what_is_possible(overrides, message):
    with pytest.raises(ValueError, match=message):
        create_model("spikingformer", **overrides)
