"""Swin Transformer with batch norm in place of layer norm and an activation after every layer.

After Z. Liu et al., "Swin Transformer", ICCV 2021, and Z. Wang et al., "Masked Spiking
Transformer", ICCV 2023. Differences from the published MST (`mst.py`): the last norm is a batch
norm with an activation too, the shortcuts are Swin's own (around norm and branch), and patch
merging reads activations, so that every weight layer after the patch embedding sees spikes once
the network is converted.
"""

import torch
from torch import Tensor, nn

from .registry import register
from .stochastic_depth import stochastic_depth
from .windows import (
    PatchGrid,
    Windows,
    choose_window,
    merge_neighbours,
    relative_position_index,
    shift_mask,
)


class TokenBatchNorm(nn.BatchNorm1d):
    """Batch norm over the last axis of tokens [B, N, C] (parameters as `nn.BatchNorm1d`)."""

    channel_axis = -1

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(-1, x.shape[-1])).view(x.shape)


NORMS = {"bn": TokenBatchNorm, "ln": nn.LayerNorm}


class PatchEmbed(nn.Module):
    """Image [B, in_chans, H, W] to tokens [B, N, C]: convolution, norm, activation."""

    def __init__(self, in_chans: int, dim: int, patch_size: int, norm: type[nn.Module]):
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, patch_size, stride=patch_size)
        self.norm = norm(dim)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.proj(x).flatten(2).transpose(1, 2)))


class WindowAttention(nn.Module):
    """Softmax attention inside windows, [B * windows, N, C] -> the same shape.

    Activations after q, k, v, the scaled scores, the weighted values and the projection; the
    relative position bias and the shift mask are added to the activated scores. With `probs_act`
    there is one after the softmax, too: it changes nothing until it is a QCFS, and then the product
    with v reads spikes on both sides.
    """

    def __init__(self, dim: int, num_heads: int, windows: Windows, probs_act: bool = False):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.tokens = windows.side**2
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_act, self.k_act, self.v_act = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.scores_act = nn.ReLU()
        self.relative_position_bias_table = nn.Parameter(
            torch.zeros((2 * windows.side - 1) ** 2, num_heads)
        )
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(windows.side))
        self.register_buffer("shift_mask", shift_mask(windows, forbidden=-1e4))
        self.softmax = nn.Softmax(dim=-1)
        self.probs_act = nn.Hardtanh(0.0, 1.0) if probs_act else nn.Identity()
        self.out_act = nn.ReLU()
        self.proj = nn.Linear(dim, dim)
        self.proj_act = nn.ReLU()

    def position_bias(self) -> Tensor:
        """[heads, N, N], or [windows, heads, N, N] with the mask of shifted windows."""
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        bias = bias.view(self.tokens, self.tokens, -1).permute(2, 0, 1)
        return bias if self.shift_mask is None else bias + self.shift_mask.unsqueeze(1)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[-1]
        q, k, v = (
            self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        )
        q, k, v = self.q_act(q), self.k_act(k), self.v_act(v)
        scores = self.scores_act(q @ k.transpose(-2, -1) * self.scale)
        bias = self.position_bias()
        if self.shift_mask is not None:
            scores = scores.unflatten(0, (-1, self.shift_mask.shape[0])) + bias
            scores = scores.flatten(0, 1)
        else:
            scores = scores + bias
        out = self.out_act(self.probs_act(self.softmax(scores)) @ v)
        return self.proj_act(self.proj(out.transpose(1, 2).reshape(-1, self.tokens, channels)))


class Mlp(nn.Module):
    """Two linear layers, each with norm and activation, [B, N, C] -> the same shape."""

    def __init__(self, dim: int, hidden: int, norm: type[nn.Module]):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.norm1 = norm(hidden)
        self.act = nn.ReLU()
        self.fc2 = nn.Linear(hidden, dim)
        self.norm2 = norm(dim)
        self.out_act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.out_act(self.norm2(self.fc2(self.act(self.norm1(self.fc1(x))))))


class SwinBlock(nn.Module):
    """Window attention and MLP, each after norm and activation, with a shortcut around them."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        windows: Windows,
        mlp_ratio: float,
        drop_path: float,
        norm: type[nn.Module],
        probs_act: bool,
    ):
        super().__init__()
        self.windows = windows
        self.norm1 = norm(dim)
        self.act1 = nn.ReLU()
        self.attn = WindowAttention(dim, num_heads, windows, probs_act)
        self.norm2 = norm(dim)
        self.act2 = nn.ReLU()
        self.mlp = Mlp(dim, int(dim * mlp_ratio), norm)
        self.drop_path = stochastic_depth(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.windows.split(self.act1(self.norm1(x)))
        x = x + self.drop_path(self.windows.join(self.attn(branch)))
        return x + self.drop_path(self.mlp(self.act2(self.norm2(x))))


class PatchMerging(nn.Module):
    """Four neighbours to one token of twice the width: [B, H * W, C] -> [B, H * W / 4, 2 C]."""

    def __init__(self, resolution: int, dim: int, norm: type[nn.Module]):
        super().__init__()
        self.resolution = resolution
        self.norm = norm(4 * dim)
        self.norm_act = nn.ReLU()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = merge_neighbours(x, self.resolution)
        return self.act(self.reduction(self.norm_act(self.norm(x))))


class Stage(nn.Module):
    """Blocks at one resolution, then patch merging if another stage follows."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None):
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample if downsample is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(self.blocks(x))


class SwinBN(nn.Module):
    """Swin Transformer for conversion; images [B, in_chans, S, S] to logits [B, num_classes].

    Args:
        img_size: side S of the image; S must be a multiple of patch_size * 2^(stages - 1).
        window_size: tokens on a side of a window (default: the largest one up to 7 that fits).
        norm: "bn", or "ln" for comparison (a layer norm stays analog after conversion).
        drop_path: largest stochastic depth rate; it grows linearly over the blocks.
        probs_act: an activation after the softmax (our recipes have it; networks of before have not).
    """

    def __init__(
        self,
        img_size: int = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        patch_size: int = 4,
        embed_dim: int = 96,
        depths=(2, 2, 6, 2),
        num_heads=(3, 6, 12, 24),
        window_size: int | None = None,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        norm: str = "bn",
        probs_act: bool = False,
    ):
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm {norm!r} is unknown; known: {', '.join(NORMS)}")
        depths, num_heads = tuple(depths), tuple(num_heads)
        grid = PatchGrid(img_size, patch_size, len(depths))
        window_size = choose_window(grid, window_size)
        self.img_size, self.in_chans, self.num_classes = img_size, in_chans, num_classes
        norm_layer = NORMS[norm]
        self.patch_embed = PatchEmbed(in_chans, embed_dim, patch_size, norm_layer)
        rates = [drop_path * i / max(1, sum(depths) - 1) for i in range(sum(depths))]
        stages, dim = [], embed_dim
        for i, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            if dim % heads:
                raise ValueError(
                    f"stage {i}: width {dim} is not a multiple of {heads} heads; "
                    "change embed_dim or num_heads"
                )
            side = grid.resolutions[i]
            blocks = [
                SwinBlock(
                    dim,
                    heads,
                    Windows.of_block(side, window_size, shifted=j % 2 == 1),
                    mlp_ratio,
                    rates.pop(0),
                    norm_layer,
                    probs_act,
                )
                for j in range(depth)
            ]
            last = i == len(depths) - 1
            stages.append(Stage(blocks, None if last else PatchMerging(side, dim, norm_layer)))
            dim = dim if last else 2 * dim
        self.layers = nn.Sequential(*stages)
        self.norm = norm_layer(dim)
        self.norm_act = nn.ReLU()
        self.head = nn.Linear(dim, num_classes)
        self.mask_sites = [
            name
            for name, _ in self.named_modules()
            if name.endswith(("attn.q_act", "attn.k_act", "attn.scores_act"))
        ]
        self.apply(init_weights)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm_act(self.norm(self.layers(self.patch_embed(x))))
        return self.head(tokens.mean(1))


def init_weights(module: nn.Module) -> None:
    """Linear layers with standard deviation fan_in^-1/2 and no bias."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


register(
    SwinBN,
    swin_bn={},
    swin_t_bn={},
    swin_s_bn={"depths": (2, 2, 18, 2)},
    swin_nano_bn={"img_size": 32, "embed_dim": 48, "depths": (2, 2), "num_heads": (3, 6)},
)
