"""SpikingResformer (Shi et al., CVPR 2024, arXiv 2403.14302): three-stage spiking transformer.

Dual spike self-attention (DSSA) whose products are scaled by measured firing rates, and a
group-wise spiking feed-forward network (GWSFFN). Keys and quirks are the published code's.
"""

import torch
from torch import nn

from ..support.messages import near_names
from .direct import (
    DirectNetwork,
    check_divides,
    check_positive,
    check_split,
    logger,
    norm_over_time,
    numbers_of_stages,
    over_time,
    spiking_neuron,
)
from .registry import register

STEM_STRIDE = {"imagenet": 4, "cifar": 1}
RESFORMER_NEURONS = ("lif", "plif")
RATE_MOMENTUM = 0.999  # of the firing-rate buffers, per training step


class Norm(nn.Module):
    """BatchNorm2d under the published key `bn`; `[N, C, H, W]`."""

    def __init__(self, channels: int):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(x)


class SpikingMatmul(nn.Module):
    """`left @ right` with spikes on the right; a module so that hooks can count it."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left @ right


class SpikingConv(nn.Sequential):
    """Neuron, convolution without bias, BN: `[T, B, C, H, W]` to `[T, B, C', H', W']`."""

    def __init__(self, neuron: nn.Module, conv: nn.Conv2d):
        super().__init__(neuron, conv, Norm(conv.out_channels))

    def forward(self, x_TBCHW: torch.Tensor) -> torch.Tensor:
        neuron, conv, norm = self
        return norm_over_time(over_time(neuron(x_TBCHW), conv), norm)


class Stem(nn.Sequential):
    """First convolution and BN (7x7 stride 2 and a max pool, or 3x3), of the analog image."""

    def __init__(self, kind: str, in_chans: int, width: int):
        if kind == "imagenet":
            super().__init__(
                nn.Conv2d(in_chans, width, 7, stride=2, padding=3, bias=False),
                Norm(width),
                nn.MaxPool2d(3, stride=2, padding=1),
            )
        else:
            super().__init__(nn.Conv2d(in_chans, width, 3, padding=1, bias=False), Norm(width))

    def forward(self, x_TBCHW: torch.Tensor) -> torch.Tensor:
        x = norm_over_time(over_time(x_TBCHW, self[0]), self[1])
        for pool in list(self)[2:]:
            x = over_time(x, pool)
        return x


class Downsample(nn.Module):
    """Neuron, 3x3 convolution of stride 2, BN; no shortcut."""

    def __init__(self, in_chans: int, out_chans: int, make_neuron):
        super().__init__()
        self.conv = nn.Conv2d(in_chans, out_chans, 3, stride=2, padding=1, bias=False)
        self.norm = Norm(out_chans)
        self.activation = make_neuron()

    def forward(self, x_TBCHW: torch.Tensor) -> torch.Tensor:
        return norm_over_time(over_time(self.activation(x_TBCHW), self.conv), self.norm)


class DSSA(nn.Module):
    """Dual spike self-attention with its shortcut: `[T, B, C, H, W]` analog in and out.

    Args:
        patch: side of the patches that keys and values are made from.
        tokens: patches of an image of the size that the network is built for; part of a scale.
        scaling: False leaves both firing-rate scales out (an ablation).
    """

    def __init__(
        self, dim: int, num_heads: int, patch: int, tokens: int, make_neuron, scaling: bool = True
    ):
        super().__init__()
        self.num_heads, self.patch, self.tokens, self.scaling = num_heads, patch, tokens, scaling
        self.register_buffer("firing_rate_x", torch.zeros(1, 1, num_heads, 1, 1))
        self.register_buffer("firing_rate_attn", torch.zeros(1, 1, num_heads, 1, 1))
        self._measured = {"firing_rate_x": False, "firing_rate_attn": False}
        self.activation_in = make_neuron()
        self.W = nn.Conv2d(dim, 2 * dim, patch, stride=patch, bias=False)
        self.norm = Norm(2 * dim)
        self.matmul1 = SpikingMatmul()
        self.matmul2 = SpikingMatmul()
        self.activation_attn = make_neuron()
        self.activation_out = make_neuron()
        self.Wproj = nn.Conv2d(dim, dim, 1, bias=False)
        self.norm_proj = Norm(dim)

    def _scale(self, buffer: str, spikes_TBh: torch.Tensor, terms: int) -> torch.Tensor:
        """1 / sqrt(firing rate * terms) of each head; training first updates the stored rate."""
        stored = getattr(self, buffer)
        if self.training:
            with torch.no_grad():
                rate = spikes_TBh.mean((0, 1, 3, 4), keepdim=True, dtype=stored.dtype)
                if not self._measured[buffer] and not stored.any():
                    stored.copy_(rate)
                self._measured[buffer] = True
                stored.mul_(RATE_MOMENTUM).add_(rate, alpha=1 - RATE_MOMENTUM)
                stored = stored.clone()
        scale = (stored * terms).rsqrt()
        # A silent head multiplies zeros: 0 instead of infinity keeps NaN out of its gradient.
        return torch.where(stored > 0, scale, torch.zeros_like(scale)).to(spikes_TBh.dtype)

    def _forward_spikes(self, x_TBCHW: torch.Tensor) -> torch.Tensor:
        """Spikes of the output neuron, `[T, B, C, H, W]`."""
        spikes = self.activation_in(x_TBCHW)
        mixed = norm_over_time(over_time(spikes, self.W), self.norm)
        heads = spikes.flatten(3).unflatten(2, (self.num_heads, -1))  # [T, B, h, d, N]
        width = heads.shape[3]
        left, right = mixed.flatten(3).unflatten(2, (self.num_heads, -1)).split(width, dim=3)
        scores = self.matmul1(left.mT, heads)  # [T, B, h, N', N]
        if self.scaling:
            scores = scores * self._scale("firing_rate_x", heads, width)
        attention = self.activation_attn(scores)
        out = self.matmul2(right, attention)  # [T, B, h, d, N]
        if self.scaling:
            out = out * self._scale("firing_rate_attn", attention, self.tokens)
        return self.activation_out(out.flatten(2, 3).unflatten(3, x_TBCHW.shape[3:]))

    def forward(self, x_TBCHW: torch.Tensor) -> torch.Tensor:
        spikes = self._forward_spikes(x_TBCHW)
        return norm_over_time(over_time(spikes, self.Wproj), self.norm_proj) + x_TBCHW


class GWSFFN(nn.Module):
    """Group-wise spiking feed-forward network with its shortcuts: `[T, B, C, H, W]`.

    Args:
        group_size: channels of one group of the 3x3 convolution.
        expansion: hidden channels over C.
        group_conv: False leaves the 3x3 group convolution out (an ablation).
    """

    def __init__(
        self, dim: int, group_size: int, expansion: int, make_neuron, group_conv: bool = True
    ):
        super().__init__()
        hidden = dim * expansion
        self.up = SpikingConv(make_neuron(), nn.Conv2d(dim, hidden, 1, bias=False))
        self.conv = nn.ModuleList()
        if group_conv:
            conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden // group_size, bias=False)
            self.conv.append(SpikingConv(make_neuron(), conv))
        self.down = SpikingConv(make_neuron(), nn.Conv2d(hidden, dim, 1, bias=False))

    def forward(self, x_TBCHW: torch.Tensor) -> torch.Tensor:
        hidden = self.up(x_TBCHW)
        for conv in self.conv:
            hidden = conv(hidden) + hidden
        return self.down(hidden) + x_TBCHW


class SpikingResformer(DirectNetwork):
    """SpikingResformer of any size.

    Args:
        widths: channels of the stages.
        num_heads: attention heads of the stages.
        group_size: channels of one group in the 3x3 convolutions of the GWSFFN.
        stem: "imagenet" (the image is shrunk 4 times) or "cifar" (not at all).
        neuron: "lif" or "plif".
        timesteps: steps for a still image (event frames bring their own).
        depths: pairs of DSSA and GWSFFN in each stage.
        patch_sizes: side of the attention's patches in each stage.
        expansion: hidden channels of the GWSFFN over its width.
        tau: time constant of the neurons (of "plif" the starting value).
        group_conv, attention, scaling: False leaves out the 3x3 group convolutions, the
            attention, or the attention's firing-rate scales (ablations).
    """

    def __init__(
        self,
        num_classes: int = 10,
        img_size: int | None = None,
        in_chans: int = 3,
        widths: tuple[int, ...] = (64, 192, 384),
        num_heads: tuple[int, ...] = (1, 3, 6),
        group_size: int = 64,
        stem: str = "cifar",
        neuron: str = "lif",
        timesteps: int = 4,
        depths: tuple[int, ...] = (1, 2, 3),
        patch_sizes: tuple[int, ...] = (4, 2, 1),
        expansion: int = 4,
        tau: float = 2.0,
        group_conv: bool = True,
        attention: bool = True,
        scaling: bool = True,
    ):
        super().__init__(timesteps)
        if stem not in STEM_STRIDE:
            raise ValueError(f"unknown stem {stem!r}; {near_names(stem, STEM_STRIDE)}")
        if neuron not in RESFORMER_NEURONS:
            raise ValueError(f"unknown neuron {neuron!r}; {near_names(neuron, RESFORMER_NEURONS)}")
        img_size = (224 if stem == "imagenet" else 32) if img_size is None else img_size
        check_positive(
            num_classes=num_classes, in_chans=in_chans, group_size=group_size, expansion=expansion
        )
        stages = _check_stages(widths, num_heads, depths, patch_sizes, group_size, expansion)
        strides = [STEM_STRIDE[stem] * 2**stage for stage in range(len(widths))]
        unit = max(stride * patch for stride, patch in zip(strides, patch_sizes, strict=True))
        check_divides(
            "img_size",
            img_size,
            unit,
            f"the {stem!r} stem, the stages and the attention's patches divide it by up to {unit}",
        )

        def make_neuron():
            return spiking_neuron(neuron, tau, gradient="atan")

        self.img_size = img_size
        self._warned_of_size = False
        self.prologue = Stem(stem, in_chans, widths[0])
        self.layers = nn.ModuleList()
        before = None
        for (width, heads, depth, patch), stride in zip(stages, strides, strict=True):
            blocks = [Downsample(before, width, make_neuron)] if before else []
            for _ in range(depth):
                tokens = (img_size // stride // patch) ** 2
                if attention:
                    blocks.append(DSSA(width, heads, patch, tokens, make_neuron, scaling))
                blocks.append(GWSFFN(width, group_size, expansion, make_neuron, group_conv))
            self.layers.append(nn.Sequential(*blocks))
            before = width
        self.classifier = nn.Linear(widths[-1], num_classes, bias=False)

    def _check_rates(self) -> None:
        """Refuse to evaluate attention whose firing rates were never measured nor loaded."""
        blocks = [
            block
            for block in self.modules()
            if isinstance(block, DSSA) and block.scaling and not block.training
        ]
        measured = (
            bool(rate.any())
            for block in blocks
            for rate in (block.firing_rate_x, block.firing_rate_attn)
        )
        if blocks and not any(measured):
            raise ValueError(
                "the firing-rate buffers of this SpikingResformer are all zero (it was neither "
                "trained nor loaded), so its attention would stay silent in eval mode; load a "
                "checkpoint (load_published), or run a few batches in train mode first, which "
                "measures the rates: model.train(); model(images); model.eval()"
            )

    def _step_logits(self, frames_TBCHW: torch.Tensor) -> torch.Tensor:
        self._check_rates()
        side = tuple(frames_TBCHW.shape[-2:])
        if side != (self.img_size, self.img_size) and not self._warned_of_size:
            self._warned_of_size = True
            logger.warning(
                "this SpikingResformer is built for images of %d x %d and is shown "
                "%d x %d; its attention keeps the scale of the former (build it with "
                "img_size=%d)",
                self.img_size,
                self.img_size,
                *side,
                side[0],
            )
        x = self.prologue(frames_TBCHW)
        for stage in self.layers:
            x = stage(x)
        return over_time(x.flatten(3).mean(3), self.classifier)


def _check_stages(widths, num_heads, depths, patch_sizes, group_size, expansion) -> list[tuple]:
    """(width, heads, depth, patch) of each stage, or a `ValueError` that says what is possible."""
    lists = {"widths": widths, "num_heads": num_heads, "depths": depths, "patch_sizes": patch_sizes}
    numbers_of_stages(**lists)
    for name, values in lists.items():
        if len(values) != len(widths):
            raise ValueError(
                f"{name} is {tuple(values)!r}; it takes one number for each of the "
                f"{len(widths)} stages of widths {tuple(widths)!r}"
            )
    for stage, (width, heads) in enumerate(zip(widths, num_heads, strict=True)):
        check_positive(
            **{
                f"num_heads[{stage}]": heads,
                f"depths[{stage}]": depths[stage],
                f"patch_sizes[{stage}]": patch_sizes[stage],
            }
        )
        check_split(f"num_heads[{stage}]", heads, f"widths[{stage}]", width)
        check_split("group_size", group_size, f"widths[{stage}] x expansion", width * expansion)
    return list(zip(widths, num_heads, depths, patch_sizes, strict=True))


register(
    SpikingResformer,
    spikingresformer={},
    spikingresformer_ti={"widths": (64, 192, 384), "num_heads": (1, 3, 6), "stem": "imagenet"},
    spikingresformer_s={"widths": (64, 256, 512), "num_heads": (1, 4, 8), "stem": "imagenet"},
    spikingresformer_m={"widths": (64, 384, 768), "num_heads": (1, 6, 12), "stem": "imagenet"},
    spikingresformer_l={"widths": (128, 512, 1024), "num_heads": (2, 8, 16), "stem": "imagenet"},
    spikingresformer_cifar={"widths": (64, 192, 384), "num_heads": (1, 3, 6), "stem": "cifar"},
    spikingresformer_dvsg={
        "widths": (32, 96, 192),
        "num_heads": (1, 3, 6),
        "group_size": 32,
        "stem": "cifar",
        "neuron": "plif",
        "timesteps": 16,
        "img_size": 64,
    },
)
