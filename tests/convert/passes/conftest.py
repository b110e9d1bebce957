"""What the tests of all passes share."""

import pytest
import torch
from torch import nn

from spikeswap.graph import trace


@pytest.fixture
def traced():
    """A function: module and example -> traced graph in float64 whose nodes know their shapes."""

    def make(module: nn.Module, example=None):
        return trace(module.double().eval(), example_inputs=example)

    return make


@pytest.fixture
def random_norms():
    """A function that gives every batch norm of a model statistics and parameters of its own."""

    def fill(model: nn.Module) -> nn.Module:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
                if module.affine:
                    nn.init.normal_(module.weight, 1.0, 0.3)
                    nn.init.normal_(module.bias)
        return model.eval()

    return fill


@pytest.fixture
def types_called():
    """A function: the classes of the modules that a graph calls, in order."""

    def types(graph):
        return [
            type(graph.get_submodule(n.target)) for n in graph.graph.nodes if n.op == "call_module"
        ]

    return types


@pytest.fixture
def images():
    return torch.randn(3, 3, 6, 6, dtype=torch.double)
