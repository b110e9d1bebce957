"""The smallest form of every random network that once failed."""

import network_proof
import pytest
import torch
import torch.nn.functional as F
from network_generator import Wave
from torch import nn

from spikeswap.convert import UnconvertibleError, convert_model, insert_qcfs, reference_network

FOUND = {}


def found(refused="", **modules):
    """A network: `function(net, x, y)` on the image x and spikes y, with these modules.

    Args:
        refused: the true reason for which it is refused; else it converts exactly.
    """

    def add(function):
        FOUND[function.__name__] = function, modules, refused
        return function

    return add


class Net(nn.Module):
    def __init__(self, function, modules):
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 4, 3, padding=1), function
        for name, make in modules.items():
            setattr(self, name, make())

    def forward(self, x):
        return self.function(self, x, self.conv(x).relu()).flatten(1)


moved = "finds the batch on axis"  # what such a network is refused for
in_place = "has no form that is not in place"


@found(moved)
def an_offset_beside_a_moved_batch(net, x, y):
    return (y.transpose(0, 1) + 0.3).transpose(0, 1).exp()


@found(moved, linear=lambda: nn.Linear(6, 3))
def a_bias_beside_a_moved_batch(net, x, y):
    return net.linear(y.transpose(0, 1)).transpose(0, 1)


@found(moved)
def a_product_beside_a_moved_batch(net, x, y):
    return (y.transpose(0, 1) * y.transpose(0, 1)).transpose(0, 1)


@found(moved)
def images_and_spikes_joined_beside_a_moved_batch(net, x, y):
    return torch.cat([x.transpose(0, 1), y.transpose(0, 1)]).transpose(0, 1)


@found(moved)
def a_kernel_and_spikes_of_each_image(net, x, y):
    kernel = y.flatten(1)[:, :16].reshape(-1, 4, 2, 2)
    return F.conv2d(y.reshape(1, -1, 6, 6), kernel, groups=y.shape[0]).reshape(-1, 1, 5, 5)


@found(moved)
def a_kernel_of_spikes_on_the_image(net, x, y):
    kernel = y.flatten(1)[:, :12].reshape(-1, 3, 2, 2)
    return F.conv2d(x.reshape(1, -1, 6, 6), kernel, groups=x.shape[0]).reshape(-1, 1, 5, 5)


@found()
def a_kernel_of_the_image_on_spikes(net, x, y):
    kernel = x.flatten(1)[:, :36].reshape(-1, 4, 3, 3)
    return F.conv2d(y.reshape(1, -1, 6, 6), kernel, groups=y.shape[0]).reshape(-1, 1, 4, 4)


@found()
def an_index_of_the_image(net, x, y):
    return y.gather(1, (x.sum(1, keepdim=True) > 0).long().expand(-1, 4, -1, -1))


@found()
def numbers_of_the_type_of_a_value(net, x, y):
    return y + torch.arange(y.shape[-1]).to(y) + torch.linspace(0, 1, y.shape[-1]).type_as(y)


@found(in_place)
def a_logical_operation_in_place(net, x, y):
    return y.clone().logical_and_(y).mean(1)


@found(in_place)
def a_comparison_in_place(net, x, y):
    return y.mean(1) * x.clone().gt_(0).mean(1)


@pytest.mark.parametrize("function, modules, refused", FOUND.values(), ids=FOUND.keys())
def test_it_is_exact_or_refused_truly(function, modules, refused):
    torch.manual_seed(0)
    net = Net(function, modules).double().eval()
    if not refused:
        assert network_proof.prove(net, 0) == "exact"
        return
    images = torch.randn(2, 3, 6, 6, dtype=torch.double)
    with pytest.raises(UnconvertibleError, match=refused):
        convert_model(insert_qcfs(net, 4, 1.0, example_inputs=images), neuron="multi")


def test_a_leaf_of_the_user_stays_one_in_the_reference_network():
    model = Net(lambda net, x, y: net.wave(y), {"wave": Wave}).double().eval()
    images = torch.randn(2, 3, 6, 6, dtype=torch.double)
    qcfs = insert_qcfs(model, 4, 1.0, leaf_modules=[Wave], example_inputs=images)
    snn = convert_model(qcfs, neuron="multi", example_inputs=images)
    expected = reference_network(snn, qcfs)(images)
    torch.testing.assert_close(snn(images, timesteps=10)[-1], expected, rtol=0, atol=1e-12)


def unused_activation(net, x, y):
    y[:, :1] = 0
    return x


def activation_of_a_parameter(net, x, y):
    return x * F.relu(net.conv.bias[:3]).view(3, 1, 1)


@pytest.mark.parametrize("function", [unused_activation, activation_of_a_parameter])
def test_a_network_that_cannot_spike_is_refused(function):
    with pytest.raises(ValueError, match="has no ReLU, ReLU6 or QCFS between image and output"):
        insert_qcfs(Net(function, {}).eval(), example_inputs=torch.randn(2, 3, 6, 6))
