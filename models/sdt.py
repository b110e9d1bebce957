"""Spike-driven Transformer (Yao et al., NeurIPS 2023, arXiv 2307.01694).

Attention without matrix products: keys and values are masked with each other, summed over the
tokens, and the spiking sum masks the queries. Keys, quirks and dead weights are the published
code's.
"""

import re

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

SDT_NEURONS = ("lif", "plif")


class Tokenizer(nn.Module):
    """Spiking patch splitting: `[T, B, C, H, W]` to the analog stream `[T, B, D, H', W']`.

    Stages 0 to 2 are conv, BN, neuron, pool; stage 3 pools before its neuron; the last
    convolution adds a position code. `rpe_lif` is never called.
    """

    def __init__(self, in_chans: int, embed_dim: int, pooling_stat: str, make_neuron):
        super().__init__()
        self.pools = [digit == "1" for digit in pooling_stat]
        for stage, width in enumerate((embed_dim // 8, embed_dim // 4, embed_dim // 2, embed_dim)):
            tail = str(stage) if stage else ""
            setattr(self, f"proj_conv{tail}", nn.Conv2d(in_chans, width, 3, padding=1, bias=False))
            setattr(self, f"proj_bn{tail}", nn.BatchNorm2d(width))
            setattr(self, f"proj_lif{tail}", make_neuron())
            if self.pools[stage]:
                setattr(self, f"maxpool{tail}", nn.MaxPool2d(3, stride=2, padding=1))
            in_chans = width
        self.rpe_conv = nn.Conv2d(embed_dim, embed_dim, 3, padding=1, bias=False)
        self.rpe_bn = nn.BatchNorm2d(embed_dim)
        self.rpe_lif = make_neuron()

    def forward(self, x_TBCHW: torch.Tensor) -> torch.Tensor:
        x = x_TBCHW
        for stage, tail in enumerate(("", "1", "2", "3")):
            x = over_time(x, getattr(self, f"proj_conv{tail}"))
            x = norm_over_time(x, getattr(self, f"proj_bn{tail}"))
            if stage < 3:
                x = getattr(self, f"proj_lif{tail}")(x)
            if self.pools[stage]:
                x = over_time(x, getattr(self, f"maxpool{tail}"))
        spikes = self.proj_lif3(x)
        return norm_over_time(over_time(spikes, self.rpe_conv), self.rpe_bn) + x


class SpikeDrivenAttention(nn.Module):
    """q masked by the spiking column sums of k * v; `[T, B, D, H, W]` analog in and out.

    `talking_heads` and `attn_lif` are never called. In `dvs_mode` spikes are dilated (3x3 max).
    """

    def __init__(self, dim: int, num_heads: int, dvs_mode: bool, make_neuron):
        super().__init__()
        self.num_heads = num_heads
        self.dilate = nn.MaxPool2d(3, stride=1, padding=1) if dvs_mode else None
        for name in "qkv":
            setattr(self, f"{name}_conv", nn.Conv2d(dim, dim, 1, bias=False))
            setattr(self, f"{name}_bn", nn.BatchNorm2d(dim))
            setattr(self, f"{name}_lif", make_neuron())
        self.attn_lif = make_neuron(threshold=0.5)
        self.talking_heads = nn.Conv1d(num_heads, num_heads, 1, bias=False)
        self.talking_heads_lif = make_neuron(threshold=0.5)
        self.proj_conv = nn.Conv2d(dim, dim, 1)
        self.proj_bn = nn.BatchNorm2d(dim)
        self.shortcut_lif = make_neuron()

    def _spikes(self, name: str, spikes_TBDHW: torch.Tensor) -> torch.Tensor:
        x = over_time(spikes_TBDHW, getattr(self, f"{name}_conv"))
        return getattr(self, f"{name}_lif")(norm_over_time(x, getattr(self, f"{name}_bn")))

    def _heads(self, x_TBDHW: torch.Tensor) -> torch.Tensor:
        """`[T, B, heads, d, N]`."""
        return x_TBDHW.flatten(3).unflatten(2, (self.num_heads, -1))

    def _dilate_heads(self, x_TBhdN: torch.Tensor) -> torch.Tensor:
        """Dilation over neighbours in (channel of a head, token index)."""
        return x_TBhdN if self.dilate is None else over_time(x_TBhdN, self.dilate)

    def forward(self, x_TBDHW: torch.Tensor) -> torch.Tensor:
        spikes = self.shortcut_lif(x_TBDHW)
        q, k, v = (self._spikes(name, spikes) for name in "qkv")
        if self.dilate is not None:
            k, v = over_time(k, self.dilate), over_time(v, self.dilate)
        key_value = self._dilate_heads(self._heads(k) * self._heads(v))
        column_sums = key_value.sum(-1).unsqueeze(3)  # [T, B, heads, 1, d], whole numbers
        gate = self.talking_heads_lif(column_sums)
        mixed = self._dilate_heads(self._heads(q) * gate.mT)
        mixed = mixed.flatten(2, 3).unflatten(3, x_TBDHW.shape[3:])
        return x_TBDHW + norm_over_time(over_time(mixed, self.proj_conv), self.proj_bn)


class Mlp(nn.Module):
    """Two neuron-conv-BN layers with their shortcut; `[T, B, D, H, W]` analog in and out."""

    def __init__(self, dim: int, hidden: int, make_neuron):
        super().__init__()
        self.inner_shortcut = hidden == dim
        self.fc1_conv = nn.Conv2d(dim, hidden, 1)
        self.fc1_bn = nn.BatchNorm2d(hidden)
        self.fc1_lif = make_neuron()
        self.fc2_conv = nn.Conv2d(hidden, dim, 1)
        self.fc2_bn = nn.BatchNorm2d(dim)
        self.fc2_lif = make_neuron()

    def forward(self, x_TBDHW: torch.Tensor) -> torch.Tensor:
        identity = x_TBDHW
        x = norm_over_time(over_time(self.fc1_lif(x_TBDHW), self.fc1_conv), self.fc1_bn)
        if self.inner_shortcut:
            x = identity = x + identity
        x = norm_over_time(over_time(self.fc2_lif(x), self.fc2_conv), self.fc2_bn)
        return x + identity


class Block(nn.Module):
    """Attention, then MLP; both add their shortcut themselves."""

    def __init__(self, dim: int, num_heads: int, hidden: int, dvs_mode: bool, make_neuron):
        super().__init__()
        self.attn = SpikeDrivenAttention(dim, num_heads, dvs_mode, make_neuron)
        self.mlp = Mlp(dim, hidden, make_neuron)

    def forward(self, x_TBDHW: torch.Tensor) -> torch.Tensor:
        return self.mlp(self.attn(x_TBDHW))


class SpikeDrivenTransformer(DirectNetwork):
    """Spike-driven Transformer of any size.

    Args:
        embed_dim: channels D of the residual stream, a multiple of 8 and of `num_heads`.
        depth: number of blocks.
        num_heads: heads; results depend on it only in `dvs_mode`.
        mlp_ratio: hidden channels of the MLP over D (1 switches its inner shortcut on).
        timesteps: steps for a still image (event frames bring their own).
        tau: time constant of every neuron (of "plif" the starting value).
        pooling_stat: four digits 0 or 1: which tokenizer stage halves the image.
        dvs_mode: dilate the spikes of the attention (published for CIFAR10-DVS).
        tet: train every step's logits (read by the trainer; the forward does not change).
        neuron: "lif" or "plif".
    """

    UNUSED_KEYS = (
        r"block\.\d+\.attn\.talking_heads\.weight",
        r"block\.\d+\.attn\.attn_lif\.w",
        r"patch_embed\.rpe_lif\.w",
    )

    def __init__(
        self,
        num_classes: int = 10,
        img_size: int = 32,
        in_chans: int = 3,
        embed_dim: int = 256,
        depth: int = 2,
        num_heads: int = 8,
        mlp_ratio: float = 4,
        timesteps: int = 4,
        tau: float = 2.0,
        pooling_stat: str = "0011",
        dvs_mode: bool = False,
        tet: bool = False,
        neuron: str = "lif",
    ):
        super().__init__(timesteps)
        if isinstance(pooling_stat, int):  # 1111, as a command line or YAML reads it
            pooling_stat = str(pooling_stat)
        if not (isinstance(pooling_stat, str) and re.fullmatch("[01]{4}", pooling_stat)):
            raise ValueError(
                f"pooling_stat is {pooling_stat!r}; it takes a text of four digits "
                f"0 or 1, such as '1111' (ImageNet) or '0011' (CIFAR)"
            )
        if neuron not in SDT_NEURONS:
            raise ValueError(f"unknown neuron {neuron!r}; {near_names(neuron, SDT_NEURONS)}")
        check_positive(num_classes=num_classes, in_chans=in_chans, depth=depth)
        halvings = pooling_stat.count("1")
        check_divides(
            "img_size",
            img_size,
            2**halvings,
            f"pooling_stat {pooling_stat!r} halves the image {halvings} times",
        )
        check_divides("embed_dim", embed_dim, 8, "the tokenizer starts at embed_dim / 8 channels")
        check_split("num_heads", num_heads, "embed_dim", embed_dim)
        hidden = hidden_channels(embed_dim, mlp_ratio)

        def make_neuron(threshold: float = 1.0):
            return spiking_neuron(neuron, tau, threshold)

        self.img_size, self.tet = img_size, tet
        self.patch_embed = Tokenizer(in_chans, embed_dim, pooling_stat, make_neuron)
        self.block = nn.ModuleList(
            Block(embed_dim, num_heads, hidden, dvs_mode, make_neuron) for _ in range(depth)
        )
        self.head_lif = make_neuron()
        self.head = nn.Linear(embed_dim, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _step_logits(self, frames_TBCHW: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(frames_TBCHW)
        for block in self.block:
            x = block(x)
        return over_time(self.head_lif(x.flatten(3).mean(3)), self.head)


_IMAGENET = {"img_size": 224, "pooling_stat": "1111"}
register(
    SpikeDrivenTransformer,
    sdt={},
    sdt_8_384=dict(_IMAGENET, embed_dim=384, depth=8),
    sdt_6_512=dict(_IMAGENET, embed_dim=512, depth=6),
    sdt_8_512=dict(_IMAGENET, embed_dim=512, depth=8),
    sdt_10_512=dict(_IMAGENET, embed_dim=512, depth=10),
    sdt_8_768=dict(_IMAGENET, embed_dim=768, depth=8),
    sdt_2_512={"embed_dim": 512},
    sdt_2_256={"embed_dim": 256},
    # CIFAR10-DVS; the Gesture model is pooling_stat="0111", dvs_mode=False, tet=False, 128 pixels.
    sdt_2_256_dvs={
        "embed_dim": 256,
        "img_size": 64,
        "in_chans": 2,
        "timesteps": 10,
        "dvs_mode": True,
        "tet": True,
    },
)
