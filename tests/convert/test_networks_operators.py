"""Networks with offsets, products, gates, norms and poolings that are not linear."""

import pytest
import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d, SqueezeExcite
from torch import nn

BODIES = {}


def body(**modules):
    def add(function):
        BODIES[function.__name__] = (function, modules)
        return function

    return add


@pytest.mark.parametrize("name", BODIES)
def test_converts_exactly(name, network, assert_exact):
    assert_exact(network(*BODIES[name]), torch.randn(3, 3, 8, 8).double())


@body(gain=lambda: nn.Parameter(torch.rand(6, 1, 1)))
def offsets_on_both_sides(net, x):
    y, g = net.conv(x), net.gain
    return (
        F.relu(1 - y)
        + F.relu(y - 1)
        + F.relu(0.5 + y)
        + F.relu(g - y)
        + F.relu(y - g)
        + F.relu(y + g)
        + F.relu(g + y)
    )


@body(gain=lambda: nn.Parameter(torch.rand(6, 1, 1)))
def offsets_as_functions(net, x):
    y, g = net.conv(x), net.gain
    return (
        F.relu(torch.rsub(y, 1.0))
        + F.relu(torch.sub(x, 0.5))
        + F.relu(x.sub(g))
        + F.relu(torch.add(x, other=-0.5))
        + F.relu(torch.add(input=y, other=0.25))
        + F.relu(y.add(0.1))
    )


@body(gain=lambda: nn.Parameter(torch.rand(6, 1, 1)))
def offsets_with_alpha(net, x):
    y, g = net.conv(x), net.gain
    return (
        F.relu(torch.add(y, x, alpha=2))
        + F.relu(torch.add(x, g, alpha=3))
        + F.relu(x.add(g, alpha=-1))
        + F.relu(torch.add(x, 1, alpha=-0.5))
        + F.relu(torch.sub(x, y, alpha=0.5))
        + F.relu(torch.sub(y, g, alpha=2))
        + F.relu(torch.rsub(y, g, alpha=0.5))
    )


@body(a=lambda: nn.Parameter(torch.tensor(0.3)), b=lambda: nn.Parameter(torch.tensor([-0.2])))
def learned_numbers(net, x):
    return F.relu(net.a * net.conv(x) + net.b) + x * net.a - net.b


@body(gain=lambda: nn.Parameter(torch.rand(6, 1, 1)))
def scaling_by_constants(net, x):
    return F.relu(-2 * net.conv(x) * net.gain / 3)


@body(position=lambda: nn.Parameter(torch.randn(1, 6, 16, 16)))
def position_embedding(net, x):
    return F.relu(net.conv(x) + net.position[:, :, : x.shape[2], : x.shape[3]])


@body()
def made_tensors(net, x):
    y = F.relu(net.conv(x) - 0.5 * torch.ones_like(x) + torch.zeros_like(x))
    return F.relu(net.conv(y) + torch.arange(8) / 8)


@body(token=lambda: nn.Parameter(torch.randn(1, 6, 8, 8)))
def branch_of_parameters_alone(net, x):
    return F.relu(net.conv(x) + net.conv(F.relu(net.token)))


@body()
def max_pool_behind_a_neuron(net, x):
    return net.relu(net.conv(F.max_pool2d(x, 2)))


@body(pool=lambda: nn.MaxPool2d(3, 2, 1))
def max_pool_on_the_analog_stream(net, x):
    return net.relu(net.pool(net.norm(net.conv(x))))


@body()
def global_and_adaptive_max(net, x):
    y = F.relu(net.conv(x))
    y = y + torch.amax(y, (2, 3), keepdim=True) + y.max(3, keepdim=True)[0]
    return F.adaptive_max_pool2d(y + torch.max(y, dim=2, keepdim=True).values, 4)


@body(a=lambda: nn.Conv2d(6, 3, 1), b=lambda: nn.Conv2d(3, 6, 1))
def squeeze_and_excite(net, x):
    gate = torch.sigmoid(net.b(F.relu(net.a(x.mean((2, 3), keepdim=True)))))
    return F.relu(net.conv(x * gate))


@body(se=lambda: SqueezeExcite(6, rd_channels=4))
def squeeze_and_excite_of_timm(net, x):
    return F.relu(net.norm(net.se(net.conv(x))) + x)


@body(a=lambda: nn.Linear(6, 3), b=lambda: nn.Linear(3, 6), gate=nn.Hardsigmoid)
def squeeze_and_excite_with_views(net, x):
    batch, channels, _, _ = x.size()
    y = F.adaptive_avg_pool2d(x, 1).view(batch, channels)
    y = net.gate(net.b(F.relu(net.a(y)))).view(batch, channels, 1, 1)
    return F.relu(net.conv(x * y.expand_as(x)))


@body()
def coordinate_gates(net, x):
    _, _, h, w = x.size()
    rows, columns = F.adaptive_avg_pool2d(x, (h, 1)), F.adaptive_avg_pool2d(x, (1, w))
    y = F.relu(net.norm(net.conv(torch.cat([rows, columns.transpose(2, 3)], 2))))
    rows, columns = torch.split(y, [h, w], 2)
    return x * rows.sigmoid() * columns.transpose(2, 3).sigmoid()


@body()
def products_of_streams(net, x):
    y = F.relu(net.conv(x) * net.norm(x))
    return y * y + y**2


@body()
def quotients_of_streams(net, x):
    return F.relu(net.conv(x)) / (1 + x) + 1 / (x + 2)


@body()
def softmax_over_channels(net, x):
    return F.relu(net.conv(x)) * torch.softmax(input=x, dim=1)


@body(norm2=lambda: nn.GroupNorm(2, 6), norm3=lambda: nn.InstanceNorm2d(6, affine=True))
def group_and_instance_norm(net, x):
    return F.relu(net.norm3(net.conv(F.relu(net.norm2(net.conv(x))))))


@body(norm2=lambda: LayerNorm2d(6))
def layer_norm_of_timm(net, x):
    return F.relu(net.norm2(net.conv(x)))


@body(norm2=lambda: nn.LayerNorm(6), norm3=lambda: nn.LocalResponseNorm(3))
def layer_norm_and_local_response(net, x):
    return net.norm3(F.relu(net.norm2(net.conv(x).movedim(1, -1)).movedim(-1, 1)))


@body()
def statistics_of_an_image(net, x):
    y = F.relu(net.conv(x))
    return F.normalize(y, dim=1) + y / (y.std((2, 3), keepdim=True) + 1)


@body()
def comparison_and_choice(net, x):
    y = net.conv(x)
    return F.relu(y) + torch.where(y > 0, y, torch.zeros_like(y))


@body(holes=lambda: torch.rand(8, 8) > 0.5)
def masked_fill(net, x):
    return F.relu(net.conv(x)).masked_fill(net.holes, 0.3)


@body()
def products_of_matrices(net, x):
    y = F.relu(net.conv(x)).flatten(2)
    z = torch.bmm(y, y.transpose(1, 2)) + torch.einsum("bcn,bdn->bcd", y, y)
    return 0.1 * F.relu(z).mean(-1)[:, :, None, None] + x


@body(gain=lambda: nn.Parameter(torch.rand(6, 1, 1)))
def fused_products_and_sums(net, x):
    y, weight = net.conv(x), net.conv.weight[:, :, 1, 1]
    flat = torch.addmm(net.conv.bias, x.movedim(1, -1).reshape(-1, 6), weight.T, alpha=0.5)
    rows = flat.view(-1, 8, 8, 6).movedim(-1, 1)
    scores = torch.baddbmm(y.flatten(2) @ x.flatten(2).mT, y.flatten(2), x.flatten(2).mT, alpha=0.1)
    gates = torch.addcmul(y, x, x.mean(1, keepdim=True), value=-0.5)
    return F.relu(rows + scores.mean(-1)[:, :, None, None]) + F.relu(torch.lerp(gates, x, net.gain))


@body()
def tensors_of_sizes(net, x):
    b, c, h, w = x.shape
    ones = torch.zeros(b, c, h, w, device=x.device, dtype=x.dtype) + x.new_ones(b, 1, h, w)
    return F.relu(net.conv(x) - ones.cumsum(2) / 8 + torch.linspace(0, 1, x.shape[3]))


@body(token=lambda: nn.Parameter(torch.randn(6, 1)))
def assigned_parts(net, x):
    y = net.conv(x)
    y[:, :2] = 0
    z = F.relu(y)
    z[:, 2:4, :, :-1] = z[:, 2:4, :, 1:]
    z[:, 4, 1:3] = 0.5
    z[:, 5] += x[:, 0]
    z[..., 7] = net.token
    return F.relu(net.conv(z))


@body()
def channels_shifted_in_time(net, x):
    out = torch.zeros_like(x)
    out[:, :2, :-1] = x[:, :2, 1:]
    out[:, 2:4, 1:] = x[:, 2:4, :-1]
    out[:, 4:] = x[:, 4:]
    return F.relu(net.conv(out))
