"""What depends on no image is computed once; weights that are read by themselves are copied."""

import torch
from torch import nn

from spikeswap.convert.passes.constants import copy_borrowed_tensors, fold_constants


class Standardised(nn.Module):
    """A convolution whose weight is standardised in every call, as in BiT."""

    def __init__(self):
        super().__init__()
        self.weight, self.gain = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.ones(()))

    def forward(self, x):
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        w = self.gain * w / w.std((1, 2, 3), keepdim=True)
        return torch.conv2d(x, w) + torch.conv2d(x, w * 2)


class PositionBias(nn.Module):
    """A table that is looked up and reshaped by its own size: sizes become numbers."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(9, 4))
        self.register_buffer("index", torch.randint(0, 9, (6, 6)))

    def forward(self, x):
        side = self.index.shape[0]
        bias = self.table[self.index.view(-1)].view(side, side, -1).permute(2, 0, 1)
        return x[:, :1] + bias.mean(0)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.offset = nn.Conv2d(3, 4, 3), nn.Parameter(torch.randn(4, 1, 1))

    def forward(self, x):
        return self.conv(x) + self.offset


def test_expressions_of_parameters_become_one_buffer(traced, images):
    graph = traced(Standardised())
    assert fold_constants(graph) > 0
    assert [n.op for n in graph.graph.nodes].count("call_function") == 3  # two convolutions, a sum
    constants = [n.target for n in graph.graph.nodes if n.op == "get_attr"]
    assert constants and set(constants) <= set(graph.state_dict())


def test_nothing_to_do_changes_nothing(traced):
    graph = traced(Plain())
    before = list(graph.graph.nodes)
    assert fold_constants(graph) == 0
    assert list(graph.graph.nodes) == before


def test_numbers_are_kept(traced, images):
    for module in (Standardised(), PositionBias(), Plain()):
        graph = traced(module)
        expected = module(images)
        fold_constants(graph)
        torch.testing.assert_close(graph(images), expected, rtol=0, atol=1e-12)


def test_several_users_share_the_value(traced, images):
    graph = traced(Standardised())
    fold_constants(graph)
    values = [n for n in graph.graph.nodes if n.op == "get_attr"]
    assert sum(len(n.users) for n in values) == 2


def test_sizes_of_constants_become_numbers(traced, images):
    graph = traced(PositionBias())
    fold_constants(graph)
    assert not any(
        n.op == "call_method" and n.target in ("size", "view") for n in graph.graph.nodes
    )
    assert len([n for n in graph.graph.nodes if n.op == "get_attr"]) == 1


class Borrows(nn.Module):
    """Reads weights beside the calls of their modules, at two places."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        y = self.conv(x)
        return y * self.conv.bias.sum() + (y + self.conv.bias.view(-1, 1, 1)) * self.conv.bias.sum()


def test_borrowed_tensors_become_buffers(traced, images):
    graph = traced(Borrows())
    assert copy_borrowed_tensors(graph) == 1
    before = graph(images)
    graph.conv.bias = None
    no_bias = graph(images)
    assert not torch.allclose(no_bias, before), "the call has lost its bias"
    graph.graph.lint()


def test_borrowing_copies_are_shared_by_all_readers(traced):
    graph = traced(Borrows())
    copy_borrowed_tensors(graph)
    targets = [n.target for n in graph.graph.nodes if n.op == "get_attr"]
    assert (
        len(targets) >= 1 and len(set(targets)) == 1 and targets[0] in dict(graph.named_buffers())
    )


def test_nothing_borrowed_changes_nothing(traced):
    graph = traced(Plain())
    before = graph.code
    assert copy_borrowed_tensors(graph) == 0
    assert graph.code == before


def test_borrowed_numbers_are_kept(traced, images):
    module = Borrows()
    graph = traced(module)
    copy_borrowed_tensors(graph)
    torch.testing.assert_close(graph(images), module(images))
