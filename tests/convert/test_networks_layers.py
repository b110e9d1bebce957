"""Networks with batch norms, convolutions and shared or rewritten weights of all kinds."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

BODIES = {}


def body(**modules):
    def add(function):
        BODIES[function.__name__] = (function, modules)
        return function

    return add


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize("name", BODIES)
def test_converts_exactly(name, network, assert_exact):
    assert_exact(network(*BODIES[name]), torch.randn(3, 3, 8, 8).double())


@body()
def norm_before_a_padded_convolution(net, x):
    """Its offset must not be folded over the border."""
    return F.relu(net.conv(net.norm(x)))


@body()
def norms_on_spikes_called_twice(net, x):
    return net.norm(F.relu(net.norm(x)))


@body(second=lambda: nn.BatchNorm2d(6))
def norm_behind_norm(net, x):
    return F.relu(net.second(net.norm(net.conv(x))))


@body(plain=lambda: nn.BatchNorm2d(6, affine=False), sync=lambda: nn.SyncBatchNorm(6))
def norms_of_other_kinds(net, x):
    return F.relu(net.plain(net.conv(F.relu(net.sync(x)))))


@body(wide=lambda: nn.BatchNorm2d(12), join=lambda: nn.Conv2d(12, 6, 1))
def norm_over_a_concatenation(net, x):
    return F.relu(net.join(F.relu(net.wide(torch.cat([x, net.conv(x)], 1)))))


@body(
    point=lambda: nn.Conv2d(6, 6, 1, bias=False),
    n1=lambda: nn.BatchNorm2d(6),
    n2=lambda: nn.BatchNorm2d(6),
)
def three_branches_as_in_repvgg(net, x):
    return F.relu(net.norm(net.conv(x)) + net.n1(net.point(x)) + net.n2(x))


@body(second=lambda: nn.BatchNorm2d(6))
def shared_convolution_with_two_norms(net, x):
    return F.relu(net.norm(net.conv(x))) + F.relu(net.second(net.conv(x + 1)))


@body()
def shared_convolution_and_norm(net, x):
    for _ in range(3):
        x = F.relu(net.norm(net.conv(x)))
    return x


@body(block=lambda: nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()))
def shared_block(net, x):
    return net.block(net.block(x))


@body()
def convolution_read_by_norm_and_activation(net, x):
    y = net.conv(x)
    return F.relu(net.norm(y)) + F.relu(y)


def tied():
    first, second = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
    second.weight = first.weight
    return nn.Sequential(first, nn.BatchNorm2d(6), nn.ReLU(), second, nn.BatchNorm2d(6), nn.ReLU())


@body(pair=tied)
def tied_weights(net, x):
    return net.pair(x)


@body(
    wn=lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 6, 3, padding=1)),
    sn=lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(6, 6, 3, padding=1)),
    old=lambda: nn.utils.weight_norm(nn.Conv2d(6, 6, 3, padding=1)),
)
def reparametrised_weights(net, x):
    return F.relu(net.old(F.relu(net.sn(F.relu(net.norm(net.wn(x)))))))


@body(weight=lambda: nn.Parameter(torch.randn(6, 6, 3, 3)))
def standardised_weights(net, x):
    w = net.weight - net.weight.mean((1, 2, 3), keepdim=True)
    w = w / (5 * (w.square().mean((1, 2, 3), keepdim=True) + 1e-5).sqrt())
    return F.relu(F.conv2d(x, w, None, 1, 1))


@body(
    weight=lambda: nn.Parameter(0.2 * torch.randn(6, 6, 3, 3)),
    bias=lambda: nn.Parameter(torch.randn(6)),
    matrix=lambda: nn.Parameter(torch.randn(6, 6) / 2),
)
def functional_convolution_and_linear(net, x):
    y = F.relu(F.conv2d(x, net.weight, net.bias, padding="same"))
    return F.relu(F.linear(y.movedim(1, -1), net.matrix, bias=net.bias).movedim(-1, 1))


@body(
    left=lambda: nn.Parameter(torch.randn(6, 6) / 2),
    right=lambda: nn.Parameter(torch.randn(64, 64) / 5),
)
def products_with_parameters(net, x):
    return F.relu(net.left @ F.relu(x.flatten(2) @ net.right)).view_as(x)


@body(kernel=lambda: torch.ones(6, 1, 3, 3) / 9)
def blur_pooling(net, x):
    padded = F.pad(net.conv(x), (1, 1, 1, 1), "reflect")
    return F.relu(F.conv2d(padded, net.kernel, groups=x.shape[1]))


@body()
def functional_batch_norm(net, x):
    n = net.norm
    return F.relu(
        F.batch_norm(net.conv(x), n.running_mean, n.running_var, n.weight, n.bias, net.training)
    )


@body(
    deep=lambda: nn.Conv2d(6, 12, 3, padding=1, groups=6, bias=False),
    n=lambda: nn.BatchNorm2d(12),
    point=lambda: nn.Conv2d(12, 6, 1, groups=3),
)
def depthwise_and_grouped(net, x):
    return F.relu(net.point(F.relu(net.n(net.deep(x)))))


@body(
    a=lambda: nn.Conv2d(6, 6, 3, padding="same", dilation=2),
    b=lambda: nn.Conv2d(6, 6, 3, padding=1, padding_mode="circular"),
    c=lambda: nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect"),
)
def paddings_of_convolutions(net, x):
    return F.relu(net.c(F.relu(net.b(F.relu(net.a(x))))))


@body(
    up=lambda: nn.ConvTranspose2d(6, 6, 2, stride=2),
    out=lambda: nn.ConvTranspose2d(6, 6, 3, stride=2, padding=1, output_padding=1, groups=3),
)
def transposed_convolutions(net, x):
    return F.relu(net.out(F.relu(net.norm(net.up(F.relu(net.conv(F.avg_pool2d(x, 2))))))))


@body(linear=lambda: nn.Linear(6, 6), gain=lambda: nn.Parameter(torch.rand(6)))
def layer_scale_on_the_stream(net, x):
    tokens = x.flatten(2).transpose(1, 2)
    tokens = tokens + net.gain * net.linear(F.relu(net.linear(tokens)))
    return F.relu(tokens).transpose(1, 2).view_as(x)


@body(
    gains=lambda: nn.ParameterList([nn.Parameter(torch.rand(6, 1, 1)) for _ in range(2)]),
    layers=lambda: nn.ModuleDict({"a": nn.Conv2d(6, 6, 1)}),
)
def parameter_lists_and_module_dictionaries(net, x):
    return F.relu(net.layers["a"](x) * net.gains[0] + net.gains[1])
