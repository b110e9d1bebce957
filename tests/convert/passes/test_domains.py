"""assign_domains: who works on the stream, who on running values, and what joins them."""

from collections import Counter

import pytest
import torch
from torch import nn

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.graph import Domain
from spikeswap.neurons import Accumulate, Offset, Present, SpikingNeuron


class Net(nn.Module):
    """A convolution with an activation, then whatever `body` does with it, then a head."""

    def __init__(self, body, **modules):
        super().__init__()
        self.conv, self.act, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Linear(4, 5)
        for name, module in modules.items():
            self.add_module(name, module)
        self.body = body

    def forward(self, x):
        return self.head(self.body(self, self.act(self.conv(x))).mean((2, 3)))


def convert(body, neuron="multi", **modules):
    model = Net(body, **modules).double().eval()
    return convert_model(insert_qcfs(model, levels=8, threshold=1.0), neuron=neuron)


def modules(snn, cls):
    return [m for m in snn.network.modules() if isinstance(m, cls)]


def domains(snn):
    return {n.name: n.meta["domain"] for n in snn.network.graph.nodes}


def test_every_node_has_a_domain_and_the_image_is_read_once():
    snn = convert(lambda net, x: x)
    assert all("domain" in n.meta for n in snn.network.graph.nodes)
    assert domains(snn)["conv"] is Domain.CONSTANT and domains(snn)["act"] is Domain.STREAM
    runs = Counter()
    with snn.observe(lambda node, *_: runs.update([node.name])):
        snn(torch.randn(2, 3, 6, 6).double(), timesteps=8, chunk=2)
    assert runs["conv"] == 1 and runs["act"] == runs["head"] == 4


def test_a_chain_of_linear_layers_needs_no_running_values():
    for neuron in ("if", "stbif", "multi"):
        snn = convert(
            lambda net, x: net.act2(net.conv2(x)), neuron, conv2=nn.Conv2d(4, 4, 3), act2=nn.ReLU()
        )
        assert not modules(snn, Accumulate)
        assert not any(m.running_input for m in modules(snn, SpikingNeuron))


def test_offsets_act_once_in_cumulative_coding_and_always_in_rate_coding():
    body, extra = lambda net, x: net.conv2(x) + 1.0, {"conv2": nn.Conv2d(4, 4, 3)}
    snn = convert(body, "multi", **extra)
    assert len(modules(snn, Offset)) == 3  # bias of conv2, the number, bias of the head
    assert snn.network.get_submodule("conv2").bias is None
    rate = convert(body, "if", **extra)
    assert not modules(rate, Offset)
    assert rate.network.get_submodule("conv2").bias is not None


@pytest.mark.parametrize("neuron, once", [("multi", True), ("if", False)])
def test_the_image_current_is_presented_once_or_in_every_step(neuron, once):
    (present,) = modules(convert(lambda net, x: x, neuron), Present)
    assert present.once is once


def test_nonlinear_operations_read_running_values_that_all_users_share():
    snn = convert(lambda net, x: x.amax((2, 3), keepdim=True) + x.softmax(1) * x.sigmoid())
    assert len(modules(snn, Accumulate)) == 1
    found = domains(snn)
    assert {found[n] for n in ("amax", "softmax", "sigmoid", "mul", "add")} == {Domain.RUNNING}


def test_a_neuron_behind_running_values_reads_them():
    snn = convert(
        lambda net, x: net.act2(net.pool(net.conv2(x))),
        conv2=nn.Conv2d(4, 4, 3),
        pool=nn.MaxPool2d(2),
        act2=nn.ReLU(),
    )
    assert snn.sites["act2"].neuron.running_input and not snn.sites["act"].neuron.running_input


def test_products_are_linear_while_one_operand_is_constant():
    found = domains(
        convert(lambda net, x: 2 * x * net.gain.weight[0, 0, 0, 0], gain=nn.Conv2d(1, 1, 1))
    )
    assert found["mul"] is found["mul_1"] is Domain.STREAM
    assert (
        domains(convert(lambda net, x: x * net.conv2(x), conv2=nn.Conv2d(4, 4, 1)))["mul"]
        is Domain.RUNNING
    )
    assert domains(convert(lambda net, x: 1 / (x + 1)))["truediv"] is Domain.RUNNING
    assert domains(convert(lambda net, x: x / 2))["truediv"] is Domain.STREAM


def test_per_step_products_and_softmax_stay_on_the_stream():
    model = Net(lambda net, x: (x @ x.transpose(2, 3)).softmax(-1) @ x).double().eval()
    quantised = insert_qcfs(model, levels=8, threshold=1.0)
    per_step = domains(convert_model(quantised, attention="per-step"))
    accumulated = domains(convert_model(quantised, attention="accumulated"))
    for name in ("matmul", "softmax", "matmul_1"):
        assert per_step[name] is Domain.STREAM and accumulated[name] is Domain.RUNNING


def test_sizes_are_read_where_the_tensors_are():
    """x.shape of the image gives B; a reshape of spikes needs K * B: the size has a twin."""

    class Viewed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(64, 5)

        def forward(self, x):
            batch = x.shape[0]
            return self.head(self.act(self.conv(x)).view(batch, -1))

    model = Viewed().double().eval()
    snn = convert_model(insert_qcfs(model, levels=8, threshold=1.0), neuron="multi")
    x = torch.randn(3, 3, 6, 6).double()
    torch.testing.assert_close(
        snn(x, timesteps=12, chunk=5)[-1],
        insert_qcfs(model, levels=8, threshold=1.0)(x),
        rtol=0,
        atol=1e-9,
    )


def test_a_constant_branch_is_computed_once():
    """Attention of the image's own tokens in front of any neuron is not simulated."""

    class Front(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 5)

        def forward(self, x):
            x = x * x.softmax(-1).amax((2, 3), keepdim=True)
            return self.head(self.act(self.conv(x)).mean((2, 3)))

    snn = convert_model(insert_qcfs(Front().double().eval(), levels=8, threshold=1.0), "multi")
    found = domains(snn)
    assert {found[n] for n in ("softmax", "amax", "mul", "conv")} == {Domain.CONSTANT}
    assert not modules(snn, Accumulate)
