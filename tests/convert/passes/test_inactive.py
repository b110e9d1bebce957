"""remove_inactive: dropout, drop path and identities go, whatever the mode of the model."""

import torch
from timm.layers import DropPath
from torch import nn
from torchvision.ops import StochasticDepth

from spikeswap.convert.passes.inactive import remove_inactive
from spikeswap.graph import trace


class Drops(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.identity = nn.Conv2d(3, 3, 1), nn.Identity()
        self.drop, self.drop2d, self.alpha = nn.Dropout(0.5), nn.Dropout2d(0.5), nn.AlphaDropout()
        self.path, self.depth = DropPath(0.9), StochasticDepth(0.9, "row")

    def forward(self, x):
        y = self.alpha(self.drop2d(self.drop(self.identity(self.conv(x)))))
        return x + self.path(y) + self.depth(y)


def test_all_kinds_are_removed(types_called):
    graph = trace(Drops())
    assert remove_inactive(graph) == 6
    assert types_called(graph) == [nn.Conv2d]


def test_nothing_to_do_changes_nothing():
    graph = trace(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()))
    before = list(graph.graph.nodes)
    assert remove_inactive(graph) == 0
    assert list(graph.graph.nodes) == before


def test_numbers_are_those_of_evaluation_even_in_train_mode():
    model = Drops().train()
    x = torch.randn(2, 3, 4, 4)
    graph = trace(model)
    remove_inactive(graph)
    torch.testing.assert_close(graph.train()(x), model.eval()(x))


def test_several_users_are_rewired():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.a, self.b = nn.Dropout(0.5), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            y = self.drop(x)
            return self.a(y) + self.b(self.drop(y)) + y

    model = Shared().eval()
    x = torch.randn(2, 3, 4, 4)
    graph = trace(model)
    assert remove_inactive(graph) == 2
    torch.testing.assert_close(graph(x), model(x))
