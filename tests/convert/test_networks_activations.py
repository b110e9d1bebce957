"""Networks that spell their activations, in-place operations and dropouts in every usual way."""

import pytest
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, DropPath
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


@body()
def functional_relu(net, x):
    return F.relu(net.norm(net.conv(x)))


@body()
def functional_relu_in_place_read_later(net, x):
    y = net.conv(x)
    F.relu(y, inplace=True)
    return y + net.conv(y)


@body()
def torch_relu(net, x):
    return torch.relu(net.norm(net.conv(x)))


@body()
def method_relu(net, x):
    return net.norm(net.conv(x)).relu()


@body()
def method_relu_in_place(net, x):
    y = net.conv(x)
    y.relu_()
    return y + x


@body()
def torch_relu_in_place(net, x):
    y = net.conv(x)
    return torch.relu_(y) + y


@body(relu=lambda: nn.ReLU(inplace=True))
def module_in_place_whose_input_is_read_later(net, x):
    y = net.norm(net.conv(x))
    return net.conv(net.relu(y)) + y


@body(relu=lambda: nn.ReLU(inplace=True))
def pre_activation(net, x):
    return net.conv(net.relu(net.norm(x))) + x


@body()
def keyword_calls(net, x):
    return F.relu(input=net.conv(input=x)) + net.relu(input=net.norm(input=x))


@body()
def one_module_at_three_places(net, x):
    return net.relu(net.conv(net.relu(net.norm(net.conv(net.relu(x - 0.2))))))


@body(r6=nn.ReLU6)
def relu6(net, x):
    return F.relu6(net.conv(net.r6(3 * net.norm(net.conv(x)))))


@body()
def clamps(net, x):
    y = torch.clamp(3 * net.norm(net.conv(x)), 0, 6)
    y = net.conv(y).clamp(min=0.0, max=1.5)
    return net.conv(y).clamp_min(0)


@body(hard=lambda: nn.Hardtanh(0, 6))
def hardtanhs(net, x):
    return F.hardtanh(net.conv(net.hard(4 * net.norm(net.conv(x)))), 0.0, 2.0)


@body(fused=lambda: BatchNormAct2d(6), bare=lambda: BatchNormAct2d(6, apply_act=False))
def fused_norm_and_activation(net, x):
    return F.relu(net.bare(net.conv(net.fused(net.conv(x)))) + x)


@body()
def dropout_function_with_the_training_flag(net, x):
    return F.dropout(F.relu(net.norm(net.conv(x))), 0.5, net.training)


@body(drop=lambda: nn.Dropout2d(0.3), path=lambda: DropPath(0.3))
def dropout_and_drop_path(net, x):
    return x + net.path(net.drop(F.relu(net.norm(net.conv(x)))))


@body()
def residual(net, x):
    return F.relu(net.norm(net.conv(x)) + x)


@body()
def augmented_assignments(net, x):
    y = net.relu(net.norm(net.conv(x)))
    y += x
    y *= 0.5
    y -= 0.1
    y /= 3
    return F.relu(y)


@body()
def augmented_assignment_of_an_alias(net, x):
    y = net.relu(net.norm(net.conv(x)))
    z = y
    y += x
    return y + z


@body()
def in_place_methods(net, x):
    y = net.relu(net.norm(net.conv(x)))
    y.add_(x)
    y.mul_(0.5)
    y.sub_(0.1)
    return F.relu(y)


@body()
def relu_in_disguise(net, x):
    """No site of its own, and right all the same: it is computed on running values."""
    y = net.norm(net.conv(x))
    return torch.maximum(y, torch.zeros_like(y))


@body()
def dead_channels(net, x):
    return F.relu(net.norm(net.conv(x)) - 1e3 * (torch.arange(6) < 3).view(-1, 1, 1))
