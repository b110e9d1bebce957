"""Whole small networks: tokens, attention, other input ranks, odd beginnings and ends."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

NETWORKS = {}


def made_for(*shape):
    def add(cls):
        NETWORKS[cls.__name__] = (cls, shape)
        return cls

    return add


@pytest.mark.parametrize("name", NETWORKS)
def test_converts_exactly(name, assert_exact):
    cls, shape = NETWORKS[name]
    assert_exact(cls(), torch.randn(3, *shape).double())


@made_for(20)
class Mlp(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Linear(20, 12),
            nn.BatchNorm1d(12),
            nn.ReLU(),
            nn.BatchNorm1d(12),
            nn.Linear(12, 12),
            nn.BatchNorm1d(12),
            nn.ReLU(),
            nn.Linear(12, 5),
        )


@made_for(3, 12)
class Signal(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv1d(3, 6, 3, padding=1),
            nn.BatchNorm1d(6),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.BatchNorm1d(6),
            nn.Conv1d(6, 6, 3),
            nn.BatchNorm1d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(6, 5),
        )


@made_for(2, 4, 6, 6)
class Volume(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv3d(2, 6, 3, padding=1),
            nn.BatchNorm3d(6),
            nn.ReLU(),
            nn.Conv3d(6, 6, 3),
            nn.BatchNorm3d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(6, 5),
        )


@made_for(3, 8, 8)
class NormBeforeLinear(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.BatchNorm1d(256),
            nn.Linear(256, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Linear(16, 5),
        )


class Convolved(nn.Module):
    """Two convolutions with activations on what `images` makes of the input, and a head."""

    def __init__(self, channels=3, width=3):
        super().__init__()
        self.a = nn.Conv2d(channels, width, 3, padding=1)
        self.b = nn.Conv2d(width, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)

    def out(self, x):
        return self.head(F.relu(self.b(x)).mean((2, 3)))


@made_for(3, 8, 8)
class ImageJoinsLater(Convolved):
    def __init__(self):
        super().__init__()
        self.b = nn.Conv2d(12, 4, 3, padding=1)

    def forward(self, x):
        y = F.relu(self.a(x))
        return self.out(torch.cat([y + x, x - y - 1, x * y, F.max_pool2d(x, 3, 1, 1)], 1))


@made_for(3, 8, 8)
class OneLayerOnImageAndSpikes(Convolved):
    def forward(self, x):
        y = F.relu(self.a(x))
        return self.out(y + F.relu(self.a(y)))


@made_for(3, 8, 8)
class NormalisesItsInput(Convolved):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))

    def forward(self, x):
        return self.out(F.relu(self.a((x - self.mean) / 0.25)))


@made_for(3, 8, 8)
class ActivationOnTheImage(Convolved):
    def forward(self, x):
        return self.out(F.relu(x))


@made_for(3, 8, 8)
class EndsInAnActivation(Convolved):
    def forward(self, x):
        return F.relu(self.out(F.relu(self.a(x))))


@made_for(3, 8, 8)
class EndsInLogSoftmax(Convolved):
    def forward(self, x):
        return F.log_softmax(self.out(F.relu(self.a(x))), dim=1)


@made_for(3, 8, 8)
class HeadReadTwice(Convolved):
    def forward(self, x):
        y = F.relu(self.a(x))
        return self.out(y) + self.out(F.relu(self.a(y)))


@made_for(3, 8, 8)
class ViewsByTheImagesBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.hidden, self.head = nn.Conv2d(3, 4, 3), nn.Linear(144, 16), nn.Linear(16, 5)

    def forward(self, x):
        batch = x.shape[0]
        return self.head(F.relu(self.hidden(F.relu(self.conv(x)).view(batch, -1))))


class Tokens(nn.Module):
    """4 x 4 tokens of width 8."""

    def __init__(self):
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, 8, 2, stride=2), nn.BatchNorm2d(8)
        self.qkv, self.proj, self.head = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 5)

    def tokens(self, x):
        return F.relu(self.norm(self.patch(x))).flatten(2).transpose(1, 2)

    def split(self, x):
        batch, count, width = x.shape
        return self.qkv(x).reshape(batch, count, 3, 2, width // 2).permute(2, 0, 3, 1, 4)

    def join(self, x):
        return x.transpose(1, 2).flatten(2)


@made_for(3, 8, 8)
class Attention(Tokens):
    def forward(self, x):
        x = self.tokens(x)
        q, k, v = (F.relu(part) for part in self.split(x).unbind(0))
        scores = (q @ k.transpose(-2, -1) * 0.5).softmax(-1)
        return self.head((x + F.relu(self.proj(self.join(scores @ v)))).mean(1))


@made_for(3, 8, 8)
class AttentionOfAnalogStreams(Tokens):
    def forward(self, x):
        x = self.tokens(x)
        q, k, v = self.split(x).unbind(0)
        scores = F.softmax(torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(4), dim=-1)
        return self.head((x + F.relu(self.proj(self.join(scores @ v)))).mean(1))


@made_for(3, 8, 8)
class FusedAttention(Tokens):
    def forward(self, x):
        x = self.tokens(x)
        q, k, v = self.split(x).unbind(0)
        y = F.scaled_dot_product_attention(
            F.relu(q), F.relu(k), v, dropout_p=0.1 if self.training else 0.0
        )
        return self.head((x + F.relu(self.proj(self.join(y)))).mean(1))


@made_for(3, 8, 8)
class LinearAttention(Tokens):
    def forward(self, x):
        x = self.tokens(x)
        q, k, v = (F.relu(part) for part in self.split(x).unbind(0))
        weights = 1 / (q @ k.sum(2).unsqueeze(-1) + 1)
        y = q @ (k.transpose(2, 3) @ v) * weights
        return self.head((x + F.relu(self.proj(self.join(y)))).mean(1))


@made_for(3, 8, 8)
class LearnedQueries(Tokens):
    def __init__(self):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, 4, 8))

    def forward(self, x):
        x = self.tokens(x)
        scores = (self.queries @ F.relu(self.proj(x)).transpose(1, 2)).softmax(-1)
        return self.head(F.relu(scores @ self.proj(x)).mean(1))


class WithClassToken(Tokens):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.position = nn.Parameter(torch.randn(1, 17, 8) * 0.3)


@made_for(3, 8, 8)
class ClassTokenExpanded(WithClassToken):
    def forward(self, x):
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), self.tokens(x)), 1) + self.position
        x = x + self.proj(F.relu(self.proj(F.relu(x))))
        x = x + x.mean(1, keepdim=True)
        return self.head(F.relu(x)[:, 0])


@made_for(3, 8, 8)
class ClassTokenRepeated(WithClassToken):
    def forward(self, x):
        x = self.tokens(x)
        x = torch.cat((self.token.repeat(x.shape[0], 1, 1), F.relu(self.proj(x))), 1)
        return self.head(F.relu(self.proj(x)).mean(1)) + self.head(x[:, 1:].mean(1))


@made_for(3, 8, 8)
class ClassTokenInFrontOfAllNeurons(WithClassToken):
    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = F.relu(torch.cat((self.token.expand(x.shape[0], -1, -1), x), 1))
        return self.head((x + F.relu(self.proj(x)))[:, 0] + x.mean(1))


@made_for(3, 8, 8)
class LayerNormTransformer(Tokens):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(8), nn.LayerNorm(8)

    def forward(self, x):
        x = self.tokens(x)
        x = x + F.relu(self.proj(self.n1(x)))
        return self.head(self.n2(x).mean(1))


@made_for(3, 8, 8)
class NormsOverTokensAndChannels(Tokens):
    """BatchNorm1d takes axis 1 of [B, N, C] as channels; with N == C nothing tells them apart."""

    def __init__(self):
        super().__init__()
        self.over_tokens, self.over_channels = nn.BatchNorm1d(16), nn.BatchNorm1d(8)
        self.square, self.on_square = nn.Linear(8, 16), nn.BatchNorm1d(16)

    def forward(self, x):
        x = self.tokens(x)
        x = F.relu(self.over_tokens(self.proj(x)))
        x = F.relu(self.over_channels(self.proj(x).transpose(1, 2)).transpose(1, 2))
        x = F.relu(self.over_channels(x.reshape(-1, 8)).view_as(x))
        return self.head(x.mean(1)) + F.relu(self.on_square(self.square(x)))[..., :5].mean(1)
