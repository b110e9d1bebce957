"""Several spellings of one operation become one, and the numbers stay."""

import pytest
import torch
from torch import nn

from spikeswap.graph import trace
from spikeswap.graph.spelling import attributes_to_calls, fused_to_sums, plain_arguments


class Body(nn.Module):
    """A linear layer on [B, 4, 4] and whatever `body` does with its result."""

    def __init__(self, body):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.gain = nn.Parameter(torch.rand(4))
        self.body = body

    def forward(self, x):
        return self.body(self, self.linear(x))


def names(graph):
    return [n.target.__name__ for n in graph.graph.nodes if n.op.startswith("call_f")]


@pytest.fixture
def x():
    return torch.randn(3, 4, 4)


FUSED = {
    "addmm": lambda n, y: torch.addmm(n.gain, y.view(-1, 4), n.linear.weight, beta=0.5, alpha=2),
    "addmm of keywords": lambda n, y: torch.addmm(
        input=n.gain, mat1=y.view(-1, 4), mat2=n.linear.weight
    ),
    "addmv": lambda n, y: y + torch.addmv(n.gain, n.linear.weight, n.gain, alpha=3),
    "baddbmm": lambda n, y: torch.baddbmm(y, y, y, beta=2, alpha=0.1),
    "addcmul": lambda n, y: y.addcmul(y, n.gain, value=-0.5),
    "addcdiv": lambda n, y: torch.addcdiv(y, y, n.gain, value=2),
    "lerp": lambda n, y: torch.lerp(y, n.gain, 0.3),
    "lerp of keywords": lambda n, y: torch.lerp(y, n.gain, weight=0.25),
    "lerp of more keywords": lambda n, y: torch.lerp(y, weight=0.25, end=n.gain),
    "lerp of methods' keywords": lambda n, y: y.lerp(end=y * 2, weight=n.gain),
    "addmv of keywords": lambda n, y: y + torch.addmv(n.gain, vec=n.gain, mat=n.linear.weight),
    "lerp of tensors": lambda n, y: y.lerp(y * 2, n.gain),
}


@pytest.mark.parametrize("case", FUSED)
def test_fused_operations_become_products_and_sums(case, x):
    model = Body(FUSED[case]).eval()
    graph = trace(model, example_inputs=x)
    plain_arguments(graph)
    assert fused_to_sums(graph) == 1
    assert not {"addmm", "addmv", "baddbmm", "addcmul", "addcdiv", "lerp"} & set(names(graph))
    torch.testing.assert_close(graph(x), model(x))
    made = [n for n in graph.graph.nodes if n.target in (torch.add, torch.mul, torch.mm)]
    assert all("module_path" in n.meta and n.meta["source"][0] == __file__ for n in made)


def test_a_fused_operation_has_several_users(x):
    def body(net, y):
        z = torch.addcmul(y, y, net.gain)
        return z + z.relu()

    model = Body(body).eval()
    graph = trace(model)
    assert fused_to_sums(graph) == 1
    torch.testing.assert_close(graph(x), model(x))


ATTRIBUTES = {
    "mT": lambda n, y: y @ y.mT,
    "T": lambda n, y: y @ n.linear.weight.T,
    "T of three axes": lambda n, y: y.T * n.gain[:, None, None],
    "T of four axes": lambda n, y: y[None].T * 2,
    "T of one axis": lambda n, y: y @ n.gain.T,
    "H": lambda n, y: y @ n.linear.weight.H,
    "data": lambda n, y: y.data * 2,
}


@pytest.mark.parametrize("case", ATTRIBUTES)
def test_attributes_that_are_tensors_become_calls(case, x):
    model = Body(ATTRIBUTES[case]).eval()
    graph = trace(model, example_inputs=x)
    assert attributes_to_calls(graph) == 1
    assert getattr not in [n.target for n in graph.graph.nodes]
    torch.testing.assert_close(graph(x), model(x))


@pytest.mark.parametrize("case", ["mT", "T", "H", "data"])
def test_attributes_become_calls_without_an_example(case, x):
    model = Body(ATTRIBUTES[case]).eval()
    graph = trace(model)
    assert attributes_to_calls(graph) == 1
    torch.testing.assert_close(graph(x), model(x))


def test_sizes_stay_attributes(x):
    graph = trace(Body(lambda n, y: y.reshape(y.shape[0], -1)))
    assert attributes_to_calls(graph) == 0
    assert getattr in [n.target for n in graph.graph.nodes]


def test_keywords_come_in_order_and_alpha_is_a_product(x):
    model = Body(lambda n, y: torch.sub(input=y, other=n.gain, alpha=3) + torch.add(y, 1, alpha=2))
    graph = trace(model.eval())
    assert plain_arguments(graph) == 4
    assert not any(n.kwargs for n in graph.graph.nodes)
    torch.testing.assert_close(graph(x), model(x))


@pytest.mark.parametrize("rewrite", [plain_arguments, fused_to_sums, attributes_to_calls])
def test_nothing_to_do_keeps_the_graph(rewrite):
    graph = trace(Body(lambda n, y: torch.add(y, n.gain)))
    before = graph.code
    assert rewrite(graph) == 0
    assert graph.code == before
