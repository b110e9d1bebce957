"""What holds for every pass: it does its work once, does nothing where there is nothing to do,
keeps the numbers, and serves all users of what it changes."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import nn

from spikeswap.convert.passes.constants import copy_borrowed_tensors, fold_constants
from spikeswap.convert.passes.inactive import remove_inactive
from spikeswap.convert.passes.masks import insert_masks, remove_masks
from spikeswap.convert.passes.norms import fold_batch_norms, norms_to_affine
from spikeswap.convert.passes.sites import open_sites_to_qcfs, qcfs_to_clipped
from spikeswap.convert.passes.weights import bake_reparametrisations, split_shared_layers
from spikeswap.graph import spelling, trace
from spikeswap.graph.normal_form import (
    drop_assertions,
    functions_to_modules,
    in_place_to_plain,
    split_fused_norms,
    split_shared_activations,
    weight_functions_to_modules,
)
from spikeswap.neurons import QCFS, SpikeMask


class Net(nn.Module):
    """`work(net, y)` behind a convolution, read twice; and modules that it may call."""

    def __init__(self, work=None, **modules):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        for name, module in modules.items():
            self.add_module(name, module)
        self.work = work
        self.offset = nn.Parameter(torch.rand(4, 1, 1))

    def forward(self, x):
        y = self.conv(x)
        if self.work is not None:
            y = self.work(self, y)
        return y * 2 + y.flatten(2).mean(2)[:, :, None, None]  # two users


def norm():
    made = nn.BatchNorm2d(4)
    nn.init.uniform_(made.weight, 0.5, 1.5)
    nn.init.uniform_(made.bias, -1, 1)
    made.running_mean.uniform_(-1, 1)
    made.running_var.uniform_(0.5, 2)
    return made


def fused_norm():
    made = BatchNormAct2d(4)
    made.load_state_dict({**made.state_dict(), **norm().state_dict()})
    return made


def asserted(net, y):
    torch._assert(y.shape[1] == 4, "channels")
    return y.relu()


def in_place(net, y):
    y = net.conv(torch.cat([y[:, :1]] * 3, 1))
    y += net.offset
    return y.relu_()


def weight_norm():
    return nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1))


relus = (nn.ReLU, nn.Hardtanh)
PASSES = {  # name: (pass, a network that gives it work)
    "attributes_to_calls": (spelling.attributes_to_calls, Net(lambda n, y: y.mT)),
    "plain_arguments": (
        spelling.plain_arguments,
        Net(lambda n, y: torch.add(y, other=n.offset, alpha=2)),
    ),
    "fused_to_sums": (spelling.fused_to_sums, Net(lambda n, y: torch.addcmul(y, y, n.offset))),
    "drop_assertions": (drop_assertions, Net(asserted)),
    "in_place_to_plain": (in_place_to_plain, Net(in_place)),
    "functions_to_modules": (functions_to_modules, Net(lambda n, y: F.relu(y))),
    "weight_functions_to_modules": (
        weight_functions_to_modules,
        Net(lambda n, y: F.conv2d(y, n.a.weight, n.a.bias), a=nn.Conv2d(4, 4, 1)),
    ),
    "split_fused_norms": (split_fused_norms, Net(lambda n, y: n.a(y), a=fused_norm())),
    "split_shared_activations": (
        partial(split_shared_activations, types=relus),
        Net(lambda n, y: n.a(y) - n.a(-y), a=nn.ReLU()),
    ),
    "bake_reparametrisations": (
        bake_reparametrisations,
        Net(lambda n, y: n.a(y), a=weight_norm()),
    ),
    "copy_borrowed_tensors": (copy_borrowed_tensors, Net(lambda n, y: y * n.conv.bias.sum())),
    "fold_constants": (fold_constants, Net(lambda n, y: y * (n.offset * 2).exp())),
    "remove_inactive": (remove_inactive, Net(lambda n, y: n.a(y), a=nn.Dropout(0.5))),
    "split_shared_layers": (
        split_shared_layers,
        Net(lambda n, y: n.a(n.a(y)), a=nn.Conv2d(4, 4, 1)),
    ),
    "fold_batch_norms": (fold_batch_norms, Net(lambda n, y: n.a(y), a=norm())),
    "norms_to_affine": (norms_to_affine, Net(lambda n, y: n.a(y), a=norm())),
    "open_sites_to_qcfs": (
        partial(open_sites_to_qcfs, levels=2**22, threshold=50.0, thresholds=None),
        Net(lambda n, y: n.a(y), a=nn.ReLU()),
    ),
    "qcfs_to_clipped": (qcfs_to_clipped, Net(lambda n, y: n.a(y), a=QCFS(2**22, 50.0))),
    "insert_masks": (
        partial(insert_masks, ratio=0.5, sites=["a"], scaling="inverse"),
        Net(lambda n, y: n.a(y), a=QCFS(8, 2.0)),
    ),
    "remove_masks": (
        remove_masks,
        Net(lambda n, y: n.m(n.a(y)), a=QCFS(8, 2.0), m=SpikeMask(0.5, "inverse")),
    ),
}
ONCE_ONLY = {"insert_masks"}  # a second mask behind a masked site is the caller's affair


@pytest.fixture
def x():
    return torch.randn(2, 3, 6, 6)


@pytest.mark.parametrize("name", PASSES)
def test_work_is_done_once_and_keeps_the_numbers_of_all_users(name, x):
    one_pass, model = PASSES[name]
    graph = trace(model.eval(), example_inputs=x)
    with torch.no_grad():
        expected = model(x)
        assert one_pass(graph) > 0
        torch.testing.assert_close(graph(x), expected, rtol=1e-4, atol=1e-4)
    graph.graph.lint()
    if name not in ONCE_ONLY:
        code = graph.code
        assert one_pass(graph) == 0 and graph.code == code, "a second run finds nothing"


@pytest.mark.parametrize("name", PASSES)
def test_nothing_to_do_leaves_the_graph_as_it_is(name):
    graph = trace(Net().eval())
    nodes, modules, code = list(graph.graph.nodes), list(graph.modules()), graph.code
    assert PASSES[name][0](graph) == 0
    assert list(graph.graph.nodes) == nodes and graph.code == code
    assert all(a is b for a, b in zip(graph.modules(), modules, strict=True))
