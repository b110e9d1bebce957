"""Networks that are written with einops, functions and layers."""

import pytest
import torch
from torch import nn

from spikeswap.convert import convert_model

einops = pytest.importorskip("einops")
layers = pytest.importorskip("einops.layers.torch")


class Attention(nn.Module):
    """As in vit-pytorch, with ReLU on q, k and v."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.to_qkv, self.act, self.to_out = nn.Linear(dim, 3 * dim), nn.ReLU(), nn.Linear(dim, dim)

    def forward(self, x):
        qkv = self.act(self.to_qkv(x)).chunk(3, dim=-1)
        q, k, v = (einops.rearrange(t, "b n (h d) -> b h n d", h=self.heads) for t in qkv)
        scores = einops.einsum(q, k, "b h i d, b h j d -> b h i j") * self.scale
        out = einops.einsum(scores.softmax(-1), v, "b h i j, b h j d -> b h i d")
        return self.to_out(einops.rearrange(out, "b h n d -> b n (h d)"))


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_patches = nn.Sequential(
            layers.Rearrange("b c (h p1) (w p2) -> b (h w) (p1 p2 c)", p1=4, p2=4),
            nn.Linear(48, 8),
        )
        self.cls_token = nn.Parameter(torch.randn(1, 1, 8))
        self.attention = Attention(8, 2)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.to_patches(x)
        cls = einops.repeat(self.cls_token, "1 1 d -> b 1 d", b=x.shape[0])
        x = torch.cat((cls, x), dim=1)
        x = x + self.attention(x)
        x = x + self.mlp(x)
        return self.head(einops.reduce(x, "b n d -> b d", "mean"))


class Windows(nn.Module):
    """Windows folded into the batch axis and back, pooling, packing."""

    def __init__(self):
        super().__init__()
        self.conv, self.act, self.mix = nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Linear(16, 16)
        self.pool = layers.Reduce("b c (h 2) (w 2) -> b c h w", "max")
        self.last = nn.ReLU()
        self.head = layers.EinMix("b c h w -> b k", weight_shape="c k", bias_shape="k", c=8, k=5)

    def forward(self, x):
        x = self.act(self.conv(x))
        h, w = x.shape[2] // 4, x.shape[3] // 4
        windows = einops.rearrange(x, "b c (h i) (w j) -> (b h w) c (i j)", i=4, j=4)
        windows = self.last(self.mix(windows))
        x = einops.rearrange(windows, "(b h w) c (i j) -> b c (h i) (w j)", h=h, w=w, i=4)
        packed, shapes = einops.pack([x, self.pool(x)], "b c *")
        x, pooled = einops.unpack(packed, shapes, "b c *")
        return self.head(x + einops.repeat(pooled, "b c h w -> b c (h 2) (w 2)"))


@pytest.mark.parametrize("network", [ViT, Windows])
def test_it_converts_exactly(network, quantised, relative_error):
    torch.manual_seed(0)
    images = torch.randn(2, 3, 16, 16, dtype=torch.double)
    example = {"example_inputs": images}  # einops asks whether the patches fit into an image
    model = network()
    fine = quantised(model, images, levels=2**20, **example)
    assert relative_error(fine(images), model(images)) < 1e-4
    qcfs = quantised(model, images, levels=16, **example)
    snn = convert_model(qcfs, neuron="multi")
    for batch in (images, torch.randn(3, 3, 16, 16, dtype=torch.double)):
        assert relative_error(snn(batch, timesteps=40)[-1], qcfs(batch)) < 1e-9
