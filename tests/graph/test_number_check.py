"""A graph whose numbers are not the model's is refused, with an example and without."""

import contextlib

import pytest
import torch
from torch import nn

from spikeswap.convert import insert_qcfs
from spikeswap.graph import UnconvertibleError, normal_form

count = 0


class Net(nn.Module):
    """Convolution, batch norm, ReLU, `body(net, x)`, head of 5 classes."""

    def __init__(self, body, flatten=None):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu, self.head = nn.ReLU(), nn.Linear(flatten or 4, 5)
        self.body, self.flatten = body, flatten

    def forward(self, x):
        x = self.body(self, self.relu(self.norm(self.conv(x))))
        return self.head(x.flatten(1) if self.flatten else x.mean((2, 3)))


def counts_its_calls(net, x):
    """The tracer sees the first call only, and every call of the model differs."""
    global count  # noqa: PLW0603
    count += 1
    return x * count


def is_random(net, x):
    return x + torch.rand(4, 1, 1)


def knows_whether_it_is_traced(net, x):
    return x * (2.0 if isinstance(x, torch.fx.Proxy) else 3.0)


def pure(net, x):
    return x


@pytest.mark.parametrize("flatten", [None, 4 * 64 * 64, 4 * 32 * 32, 4 * 28 * 28])
def test_wrong_numbers_are_found_without_an_example(flatten):
    with pytest.raises(UnconvertibleError, match="changed its numbers"):
        insert_qcfs(Net(knows_whether_it_is_traced, flatten))


def test_wrong_numbers_are_found_with_an_example():
    with pytest.raises(UnconvertibleError, match="changed its numbers"):
        insert_qcfs(Net(knows_whether_it_is_traced), example_inputs=torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize("call", [normal_form, insert_qcfs])
def test_a_size_that_fits_is_searched_for(call):
    """The first of 1 to 256 pixels on which the network runs; wrong numbers are found on it."""
    assert call(Net(pure, 4 * 30 * 30))
    with pytest.raises(UnconvertibleError, match="changed its numbers"):
        call(Net(knows_whether_it_is_traced, 4 * 30 * 30))


@pytest.mark.parametrize("call", [normal_form, insert_qcfs])
def test_where_no_size_fits_an_example_is_asked_for(call):
    with pytest.raises(UnconvertibleError, match="example_inputs"):
        call(Net(pure, 4 * 30 * 31))
    assert call(Net(pure, 4 * 30 * 31), example_inputs=torch.zeros(2, 3, 30, 31))


@pytest.mark.parametrize("body", [counts_its_calls, is_random])
def test_a_network_that_differs_from_itself_is_refused(body):
    with pytest.raises(UnconvertibleError, match="second call|changed its numbers|random in eval"):
        insert_qcfs(Net(body))


def test_a_graph_that_fails_where_the_model_runs_is_refused():
    def three_axes(net, x):
        return x.sum(0).T.sum((0, 1))[None, :, None, None] + x

    with pytest.raises(UnconvertibleError, match=r"graph fails on images .*example_inputs"):
        normal_form(Net(three_axes))
    with pytest.raises(UnconvertibleError, match="mixes the images"):  # the table is asked first
        insert_qcfs(Net(three_axes))


@pytest.mark.parametrize("body", [pure, is_random])
@pytest.mark.parametrize("training", [False, True])
def test_the_callers_model_and_random_numbers_stay_as_they_were(body, training):
    net, seen = Net(body).train(training), []
    net.conv.register_forward_hook(lambda *arguments: seen.append(1))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    with contextlib.nullcontext() if body is pure else pytest.raises(UnconvertibleError):
        normal_form(net)
    if body is pure:  # tracing a random network may draw
        assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert net.training is training and not seen


def test_a_network_of_linear_layers_is_compared():
    class Linears(nn.Sequential):
        def forward(self, x):
            return super().forward(x) * (2.0 if isinstance(x, torch.fx.Proxy) else 3.0)

    with pytest.raises(UnconvertibleError, match="changed its numbers"):
        insert_qcfs(Linears(nn.Linear(7, 4), nn.ReLU(), nn.Linear(4, 2)))
