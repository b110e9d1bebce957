"""The Masked Spiking Transformer in its published layout, quirks included.

Z. Wang et al., "Masked Spiking Transformer", ICCV 2023. Key names and order of operations are those
of the published code; the activations are plain ReLU until `insert_qcfs`. What differs from
`swin_bn.py`: the MLP's shortcut starts after the second norm, patch merging and the last layer norm
stay analog, and only the ImageNet variant has norms inside the MLP.
"""

import torch
from torch import Tensor, nn

from .registry import register
from .stochastic_depth import stochastic_depth
from .swin_bn import TokenBatchNorm, init_weights
from .windows import (
    PatchGrid,
    Windows,
    choose_window,
    merge_neighbours,
    relative_position_index,
    shift_mask,
)


class MSTPatchEmbed(nn.Module):
    """Image to tokens [B, N, C]: convolution, batch norm, activation."""

    def __init__(self, in_chans: int, dim: int, patch_size: int):
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, patch_size, stride=patch_size)
        self.proj_if = nn.ReLU()
        self.norm = TokenBatchNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj_if(self.norm(self.proj(x).flatten(2).transpose(1, 2)))


class MSTAttention(nn.Module):
    """Window attention [B * windows, N, C] with an activation after every product and layer."""

    def __init__(self, dim: int, num_heads: int, windows: Windows):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.tokens = windows.side**2
        self.relative_position_bias_table = nn.Parameter(
            torch.zeros((2 * windows.side - 1) ** 2, num_heads)
        )
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(windows.side))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_if, self.k_if, self.v_if = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.attn_if, self.attn_v_if = nn.ReLU(), nn.ReLU()
        self.proj = nn.Linear(dim, dim)
        self.proj_if = nn.ReLU()
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        channels = x.shape[-1]
        q, k, v = (
            self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        )
        q, k, v = self.q_if(q), self.k_if(k), self.v_if(v)
        scores = self.attn_if(q @ k.transpose(-2, -1) * self.scale)
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        bias = bias.view(self.tokens, self.tokens, -1).permute(2, 0, 1)
        if mask is not None:
            bias = bias + mask.unsqueeze(1)
            scores = (scores.unflatten(0, (-1, mask.shape[0])) + bias).flatten(0, 1)
        else:
            scores = scores + bias
        out = self.attn_v_if(self.softmax(scores) @ v)
        return self.proj_if(self.proj(out.transpose(1, 2).reshape(-1, self.tokens, channels)))


class MSTMlp(nn.Module):
    """Two linear layers with activations; batch norms between them in the ImageNet variant."""

    def __init__(self, dim: int, hidden: int, with_norms: bool):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        if with_norms:
            self.norm1 = TokenBatchNorm(hidden)
        self.fc1_if = nn.ReLU()
        self.fc2 = nn.Linear(hidden, dim)
        if with_norms:
            self.norm2 = TokenBatchNorm(dim)
        self.fc2_if = nn.ReLU()
        self.with_norms = with_norms

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        x = self.fc2(self.fc1_if(self.norm1(x) if self.with_norms else x))
        return self.fc2_if(self.norm2(x) if self.with_norms else x)


class MSTBlock(nn.Module):
    """Attention with the usual shortcut; the MLP's shortcut is the output of the second norm."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        windows: Windows,
        mlp_ratio: float,
        drop_path: float,
        mlp_norms: bool,
    ):
        super().__init__()
        self.windows = windows
        self.register_buffer("attn_mask", shift_mask(windows, forbidden=-100.0))
        self.norm1 = TokenBatchNorm(dim)
        self.shortcut1_if = nn.ReLU()
        self.attn = MSTAttention(dim, num_heads, windows)
        self.drop_path = stochastic_depth(drop_path)
        self.norm2 = TokenBatchNorm(dim)
        self.shortcut2_if = nn.ReLU()
        self.mlp = MSTMlp(dim, int(dim * mlp_ratio), mlp_norms)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.windows.split(self.shortcut1_if(self.norm1(x)))
        x = x + self.drop_path(self.windows.join(self.attn(branch, self.attn_mask)))
        x = self.norm2(x)
        return x + self.drop_path(self.mlp(self.shortcut2_if(x)))


class MSTPatchMerging(nn.Module):
    """[B, H * W, C] -> [B, H * W / 4, 2 C]; the linear layer reads the analog norm output."""

    def __init__(self, resolution: int, dim: int):
        super().__init__()
        self.resolution = resolution
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = TokenBatchNorm(4 * dim)
        self.reduction_if = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.reduction_if(self.reduction(self.norm(merge_neighbours(x, self.resolution))))


class MSTStage(nn.Module):
    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None):
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample if downsample is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(self.blocks(x))


class MST(nn.Module):
    """Published MST; images [B, in_chans, S, S] to logits [B, num_classes].

    Args:
        dataset: "imagenet" (batch norms in the MLP) or "cifar" (none); the published checkpoints
            of CIFAR-10 and CIFAR-100 belong to "cifar".
        others: as in `swin_bn.SwinBN`.
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
        dataset: str = "imagenet",
    ):
        super().__init__()
        if dataset not in ("imagenet", "cifar"):
            raise ValueError(
                f"dataset {dataset!r} is unknown; known: imagenet (norms in the MLP), cifar (none)"
            )
        depths, num_heads = tuple(depths), tuple(num_heads)
        grid = PatchGrid(img_size, patch_size, len(depths))
        window_size = choose_window(grid, window_size)
        self.img_size, self.in_chans, self.num_classes = img_size, in_chans, num_classes
        self.patch_embed = MSTPatchEmbed(in_chans, embed_dim, patch_size)
        rates = [drop_path * i / max(1, sum(depths) - 1) for i in range(sum(depths))]
        stages, dim = [], embed_dim
        for i, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            if dim % heads:
                raise ValueError(
                    f"stage {i}: width {dim} is not a multiple of {heads} heads; "
                    "change embed_dim or num_heads"
                )
            side, last = grid.resolutions[i], i == len(depths) - 1
            blocks = [
                MSTBlock(
                    dim,
                    heads,
                    Windows.of_block(side, window_size, shifted=j % 2 == 1),
                    mlp_ratio,
                    rates.pop(0),
                    dataset == "imagenet",
                )
                for j in range(depth)
            ]
            stages.append(MSTStage(blocks, None if last else MSTPatchMerging(side, dim)))
            dim = dim if last else 2 * dim
        self.layers = nn.Sequential(*stages)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)
        self.mask_sites = [
            name
            for name, _ in self.named_modules()
            if name.endswith(("attn.q_if", "attn.k_if", "attn.attn_if"))
        ]
        self.apply(init_weights)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(self.patch_embed(x))).mean(1))


register(MST, mst={}, mst_swin_t={})
