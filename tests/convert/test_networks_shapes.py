"""Networks that cut, join, move and resize what flows through them."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

BODIES = {}


def body(width=6, **modules):
    def add(function):
        BODIES[function.__name__] = (function, modules, width)
        return function

    return add


@pytest.mark.parametrize("name", BODIES)
def test_converts_exactly(name, network, assert_exact):
    assert_exact(network(*BODIES[name]), torch.randn(3, 3, 8, 8).double())


@body(12)
def concatenation_of_spikes(net, x):
    return torch.cat([x, F.relu(net.norm(net.conv(x)))], 1)


@body(12)
def concatenation_with_an_analog_stream(net, x):
    return torch.cat(tensors=[x, net.norm(net.conv(x))], dim=1)


@body(24)
def dense_block(net, x):
    features = [x]
    for _ in range(3):
        features.append(F.relu(net.conv(features[-1])))
    return torch.cat(features, 1)


@body()
def channel_shuffle(net, x):
    y = F.relu(net.conv(x))
    batch, channels, height, width = y.size()
    y = y.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
    return y.view(batch, -1, height, width)


@body(shuffle=lambda: nn.ChannelShuffle(2))
def channel_shuffle_module(net, x):
    return net.shuffle(F.relu(net.conv(x)))


@body(few=lambda: nn.Conv2d(3, 3, 3, padding=1))
def chunk_and_split(net, x):
    a, b = x.chunk(2, dim=1)
    y = torch.cat((a, F.relu(net.few(b))), 1)
    c, d = torch.split(y, [2, 4], 1)
    return torch.cat((d, c), 1)


@body()
def split_by_a_computed_size(net, x):
    parts = torch.split(F.relu(net.conv(x)), x.shape[1] // 3, 1)
    return torch.cat(parts[::-1], 1)


@body()
def loop_over_channels(net, x):
    y = F.relu(net.conv(x))
    return torch.cat([y[:, i : i + 1] * (i + 1) for i in range(x.shape[1])], 1)


@body()
def stack_and_sum(net, x):
    y = torch.stack([x, F.relu(net.conv(x)), net.norm(x)], 0).sum(0)
    return F.relu(torch.stack([y, net.conv(y)], -1).mean(-1))


@body()
def roll_flip_rotate(net, x):
    return F.relu(net.conv(torch.roll(x, (1, 2), (2, 3)).flip(-1).rot90(1, (2, 3))))


@body(join=lambda: nn.Conv2d(24, 6, 1))
def space_to_depth_by_slices(net, x):
    return F.relu(
        net.join(
            torch.cat(
                [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1
            )
        )
    )


@body(open=lambda: nn.Conv2d(6, 6, 3))
def padding_with_zeros_and_reflection(net, x):
    y = F.relu(net.open(F.pad(x, (1, 1, 1, 1))))
    return F.relu(net.open(F.pad(y, (1, 1, 1, 1), mode="reflect")))


@body(open=lambda: nn.Conv2d(6, 6, 3), pad=lambda: nn.ConstantPad2d(1, 0.7))
def padding_with_a_constant(net, x):
    y = F.relu(net.open(F.pad(x, (1, 1, 1, 1), value=1.0)))
    y = F.relu(net.open(F.pad(net.conv(y), (1, 1, 1, 1), "constant", -0.5)))
    return F.relu(net.open(net.pad(y)))


@body(strided=lambda: nn.Conv2d(6, 6, 3, stride=2))
def same_padding_from_the_size(net, x):
    height, width = x.size()[-2:]
    down, right = (max((math.ceil(n / 2) - 1) * 2 + 3 - n, 0) for n in (height, width))
    return F.relu(
        net.strided(F.pad(x, [right // 2, right - right // 2, down // 2, down - down // 2]))
    )


@body(up=lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True))
def resizing(net, x):
    y = net.up(F.relu(net.conv(F.avg_pool2d(x, 2))))
    z = F.interpolate(F.relu(net.conv(F.avg_pool2d(x, 4))), size=x.shape[-2:], mode="nearest")
    return y + z + F.interpolate(input=x, scale_factor=1)


@body(wide=lambda: nn.Conv2d(6, 24, 1))
def pixel_shuffle(net, x):
    return F.pixel_shuffle(F.relu(net.wide(x)), 2)


@body()
def poolings(net, x):
    y = F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
    return F.adaptive_avg_pool2d(F.relu(net.conv(y)), (3, 3))


@body(linear=lambda: nn.Linear(54, 6))
def unfold(net, x):
    batch, _, height, width = x.shape
    y = net.linear(F.unfold(x, 3, padding=1).transpose(1, 2))
    return F.relu(y).transpose(1, 2).reshape(batch, 6, height, width)


@body()
def expand_as(net, x):
    return F.relu(net.conv(x) + x.mean((2, 3), keepdim=True).expand_as(x))


@body()
def unbind(net, x):
    a, b, c = x.view(x.shape[0], 3, 2, *x.shape[2:]).unbind(1)
    return torch.cat((F.relu(a - b), c, a), 1)


@body(linear=lambda: nn.Linear(6, 6))
def channels_last_linear(net, x):
    return F.relu(net.linear(x.movedim(1, -1))).permute(0, 3, 1, 2)


@body(order=lambda: torch.tensor([3, 1, 0, 2, 5, 4]))
def index_select_and_fancy_index(net, x):
    return F.relu(net.conv(x.index_select(1, net.order)))[:, net.order]


@body(linear=lambda: nn.Linear(6, 6))
def windows(net, x):
    batch, channels, height, width = x.shape
    y = x.permute(0, 2, 3, 1).view(batch, height // 4, 4, width // 4, 4, channels)
    y = F.relu(net.linear(y.transpose(2, 3).reshape(-1, 16, channels)))
    y = y.view(-1, height // 4, width // 4, 4, 4, channels).transpose(2, 3)
    return y.reshape(batch, height, width, channels).permute(0, 3, 1, 2)


@body()
def rows_into_the_batch(net, x):
    """Axial layers: batch first, rows second, so an image stays in one piece."""
    batch, channels, height, width = x.shape
    y = x.transpose(1, 2).reshape(batch * height, channels, 1, width)
    return F.relu(net.conv(y)).view(batch, height, channels, width).transpose(1, 2)


@body()
def sizes_in_the_arithmetic(net, x):
    n = x.shape[2] * x.shape[3]
    return F.relu(net.conv(x) * n / 64 + n / 64)


@body()
def sizes_unpacked(net, x):
    y = F.relu(net.conv(x)).reshape(x.size())
    assert len(x.shape) == 4
    h, w = x.shape[-2:]
    return y.reshape(*x.shape).flatten(2).unflatten(2, (h, w)).flatten(0, 1).unflatten(0, (-1, 6))


@body(q=lambda: nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (8, 8))))
def flatten_modules(net, x):
    return net.q(F.relu(net.conv(x)))


@body()
def cumulative_sum_over_rows(net, x):
    return F.relu(net.conv(x.cumsum(2) / 8))


@body()
def types_and_devices(net, x):
    y = net.conv(x).to(x.dtype).to(x.device).type_as(x).contiguous().clone()
    return F.relu(y).view_as(x)


@body()
def number_of_windows(net, x):
    b, c, h, w = x.shape
    y = x.view(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
    y = F.relu(y - y.mean(1, keepdim=True))
    images = int(y.shape[0] / (h * w / 4 / 4))
    y = y.view(images, h // 4, w // 4, 4, 4, -1).permute(0, 5, 1, 3, 2, 4)
    return F.relu(net.conv(y.reshape(images, -1, h, w)))
