"""Spikingformer (Zhou et al., 2023, arXiv 2304.11954): spiking transformer with membrane shortcuts.

Conv-BN tokenizer with neurons before the later convolutions, blocks whose residual stream is
analog, attention without softmax. Keys, quirks and dead weights are those of the published code.
"""

import torch
from torch import nn

from ..support.messages import near_names
from .direct import (
    DirectNetwork,
    check_divides,
    check_positive,
    check_split,
    hidden_channels,
    norm_over_time,
    over_time,
    spiking_neuron,
)
from .registry import register

# (key stem of stage 0, of stages 1 to 4, pool in front of stages 1 to 4, key-value product first)
TOKENIZERS = {
    "imagenet": ("proj", "proj{}", (True, True, True, True), True),
    "dvs": ("proj", "proj{}", (True, True, True, True), False),
    "cifar": ("block0", "block{}", (False, False, True, True), False),
}
IMAGES = {"imagenet": (224, 3, 2.0), "cifar": (32, 3, 2.0), "dvs": (128, 2, 1.5)}  # side, C, tau
ATTENTION_SCALE = 0.125  # the published constant, whatever the head width


class Tokenizer(nn.Module):
    """`[T, B, C, H, W]` to the analog residual stream `[T, B, D, H', W']`."""

    def __init__(self, kind: str, in_chans: int, embed_dim: int, tau: float):
        super().__init__()
        first, later, self.pools, _ = TOKENIZERS[kind]
        widths = [embed_dim // 8, embed_dim // 4, embed_dim // 2, embed_dim, embed_dim]
        self.stems = [first] + [later.format(stage) for stage in range(1, 5)]
        for stage, (stem, width) in enumerate(zip(self.stems, widths, strict=True)):
            if stage:
                setattr(self, f"{stem}_lif", spiking_neuron("lif", tau))
                if self.pools[stage - 1]:
                    setattr(self, f"maxpool{stage}", nn.MaxPool2d(3, stride=2, padding=1))
            setattr(self, f"{stem}_conv", nn.Conv2d(in_chans, width, 3, padding=1, bias=False))
            setattr(self, f"{stem}_bn", nn.BatchNorm2d(width))
            in_chans = width

    def forward(self, x_TBCHW: torch.Tensor) -> torch.Tensor:
        x = x_TBCHW
        for stage, stem in enumerate(self.stems):
            if stage:
                x = getattr(self, f"{stem}_lif")(x)
                if self.pools[stage - 1]:
                    x = over_time(x, getattr(self, f"maxpool{stage}"))
            x = over_time(x, getattr(self, f"{stem}_conv"))
            x = norm_over_time(x, getattr(self, f"{stem}_bn"))
        return x


class SpikingSelfAttention(nn.Module):
    """Softmax-free attention of binary q, k, v; `[T, B, D, H, W]` analog in and out."""

    def __init__(self, dim: int, num_heads: int, tau: float, key_value_first: bool):
        super().__init__()
        self.num_heads, self.key_value_first = num_heads, key_value_first
        self.proj_lif = spiking_neuron("lif", tau)
        for name in "qkv":
            setattr(self, f"{name}_conv", nn.Conv1d(dim, dim, 1, bias=False))
            setattr(self, f"{name}_bn", nn.BatchNorm1d(dim))
            setattr(self, f"{name}_lif", spiking_neuron("lif", tau))
        self.attn_lif = spiking_neuron("lif", tau, threshold=0.5)
        self.proj_conv = nn.Conv1d(dim, dim, 1)
        self.proj_bn = nn.BatchNorm1d(dim)

    def _heads(self, name: str, spikes_TBDN: torch.Tensor) -> torch.Tensor:
        """Spikes of q, k or v: `[T, B, heads, d, N]`."""
        x = over_time(spikes_TBDN, getattr(self, f"{name}_conv"))
        x = getattr(self, f"{name}_lif")(norm_over_time(x, getattr(self, f"{name}_bn")))
        return x.unflatten(2, (self.num_heads, -1))

    def forward(self, x_TBDHW: torch.Tensor) -> torch.Tensor:
        spikes = self.proj_lif(x_TBDHW).flatten(3)
        q, k, v = (self._heads(name, spikes) for name in "qkv")
        if self.key_value_first:  # both orders give the same whole numbers
            mixed = (v @ k.mT) @ q
        else:
            mixed = v @ (k.mT @ q)
        spikes = self.attn_lif(mixed.flatten(2, 3) * ATTENTION_SCALE)
        x = norm_over_time(over_time(spikes, self.proj_conv), self.proj_bn)
        return x.unflatten(3, x_TBDHW.shape[3:])


class Mlp(nn.Module):
    """Two neuron-conv-BN layers, D to `hidden` and back; `[T, B, D, H, W]` analog in and out."""

    def __init__(self, dim: int, hidden: int, tau: float):
        super().__init__()
        self.mlp1_lif = spiking_neuron("lif", tau)
        self.mlp1_conv = nn.Conv2d(dim, hidden, 1)
        self.mlp1_bn = nn.BatchNorm2d(hidden)
        self.mlp2_lif = spiking_neuron("lif", tau)
        self.mlp2_conv = nn.Conv2d(hidden, dim, 1)
        self.mlp2_bn = nn.BatchNorm2d(dim)

    def forward(self, x_TBDHW: torch.Tensor) -> torch.Tensor:
        x = norm_over_time(over_time(self.mlp1_lif(x_TBDHW), self.mlp1_conv), self.mlp1_bn)
        return norm_over_time(over_time(self.mlp2_lif(x), self.mlp2_conv), self.mlp2_bn)


class Block(nn.Module):
    """Attention and MLP on an analog residual stream. `norm1` and `norm2` are never applied."""

    def __init__(self, dim: int, num_heads: int, hidden: int, tau: float, key_value_first: bool):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = SpikingSelfAttention(dim, num_heads, tau, key_value_first)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, hidden, tau)

    def forward(self, x_TBDHW: torch.Tensor) -> torch.Tensor:
        x = x_TBDHW + self.attn(x_TBDHW)
        return x + self.mlp(x)


class Spikingformer(DirectNetwork):
    """Spikingformer of any size.

    Args:
        embed_dim: channels D of the residual stream, a multiple of 8 and of `num_heads`.
        depth: number of blocks.
        num_heads: heads; shapes do not depend on it, results do.
        mlp_ratio: hidden channels of the MLP over D.
        timesteps: steps for a still image (event frames bring their own).
        tau: time constant of every neuron (default 2.0; of the "dvs" tokenizer 1.5).
        tokenizer: "imagenet" and "dvs" shrink the image 16 times, "cifar" 4 times.
    """

    UNUSED_KEYS = (r"block\.\d+\.norm[12]\.(weight|bias)",)

    def __init__(
        self,
        num_classes: int = 10,
        img_size: int | None = None,
        in_chans: int | None = None,
        embed_dim: int = 384,
        depth: int = 4,
        num_heads: int = 12,
        mlp_ratio: float = 4,
        timesteps: int = 4,
        tau: float | None = None,
        tokenizer: str = "cifar",
    ):
        super().__init__(timesteps)
        if tokenizer not in TOKENIZERS:
            near = near_names(tokenizer, TOKENIZERS)
            raise ValueError(f"unknown tokenizer {tokenizer!r}; {near}")
        check_positive(num_classes=num_classes, depth=depth, num_heads=num_heads)
        default_size, default_chans, default_tau = IMAGES[tokenizer]
        img_size = default_size if img_size is None else img_size
        in_chans = default_chans if in_chans is None else in_chans
        tau = default_tau if tau is None else tau
        _, _, pools, key_value_first = TOKENIZERS[tokenizer]
        check_divides(
            "img_size",
            img_size,
            2 ** sum(pools),
            f"the {tokenizer!r} tokenizer halves the image {sum(pools)} times",
        )
        check_divides("embed_dim", embed_dim, 8, "the tokenizer starts at embed_dim / 8 channels")
        check_split("num_heads", num_heads, "embed_dim", embed_dim)
        check_positive(in_chans=in_chans)
        hidden = hidden_channels(embed_dim, mlp_ratio)
        self.img_size = img_size
        self.patch_embed = Tokenizer(tokenizer, in_chans, embed_dim, tau)
        self.block = nn.ModuleList(
            Block(embed_dim, num_heads, hidden, tau, key_value_first) for _ in range(depth)
        )
        self.head = nn.Linear(embed_dim, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def _step_logits(self, frames_TBCHW: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(frames_TBCHW)
        for block in self.block:
            x = block(x)
        return over_time(x.flatten(3).mean(3), self.head)


register(
    Spikingformer,
    spikingformer={},
    spikingformer_8_384={"embed_dim": 384, "depth": 8, "num_heads": 8, "tokenizer": "imagenet"},
    spikingformer_8_512={"embed_dim": 512, "depth": 8, "num_heads": 8, "tokenizer": "imagenet"},
    spikingformer_8_768={"embed_dim": 768, "depth": 8, "num_heads": 8, "tokenizer": "imagenet"},
    # 12 heads as published for CIFAR-10; the CIFAR-100 recipe has num_heads=8.
    spikingformer_4_384={"embed_dim": 384, "depth": 4, "num_heads": 12, "tokenizer": "cifar"},
    spikingformer_2_256_dvs={
        "embed_dim": 256,
        "depth": 2,
        "num_heads": 16,
        "tokenizer": "dvs",
        "timesteps": 16,
    },
)
