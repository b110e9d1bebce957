"""Tracing: control flow on shapes, what is refused, and that the caller's model stays as it was."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikeswap.graph import UnconvertibleError, trace


class Small(nn.Module):
    """A convolution, whatever `body` does, and a head."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)

    def body(self, x):
        return x

    def forward(self, x):
        return self.head(F.relu(self.body(self.conv(x))).mean((2, 3)))


class BranchOnSize(Small):
    def body(self, x):
        return F.avg_pool2d(x, 2) if x.shape[-1] > 4 else x


class BranchOnRank(Small):
    def body(self, x):
        return x[None] if x.dim() == 3 or x.ndim == 2 else x


class LengthOfShape(Small):
    def body(self, x):
        assert len(x.shape) == 4
        return x.reshape(*x.shape)


class LoopOverChannels(Small):
    def body(self, x):
        return torch.cat([x[:, i : i + 1] * (i + 1) for i in range(x.shape[1])], 1)


class SamePadding(Small):
    """Padding computed from the size, as timm's and EfficientNet's "same" convolutions do."""

    def __init__(self):
        super().__init__()
        self.strided = nn.Conv2d(4, 4, 3, stride=2)

    def body(self, x):
        height, width = x.size()[-2:]
        down, right = (max((-(-n // 2) - 1) * 2 + 3 - n, 0) for n in (height, width))
        return self.strided(F.pad(x, [right // 2, right - right // 2, down // 2, down - down // 2]))


class CompareShapes(Small):
    def body(self, x):
        y = self.conv(torch.ones_like(x[:, :3]))
        return x + y if x.shape[-2:] == y.shape[-2:] else x


CONTROL_FLOW = [
    BranchOnSize,
    BranchOnRank,
    LengthOfShape,
    LoopOverChannels,
    SamePadding,
    CompareShapes,
]


class WholeNumberOfWindows(Small):
    """As in the official Swin's window_reverse."""

    def body(self, x):
        windows = x.reshape(-1, 2, *x.shape[2:])
        batch = int(windows.shape[0] / (x.shape[1] / 2))
        assert isinstance(4, int) and int("7") == 7
        return windows.view(batch, 4, *x.shape[2:])


class TensorsOfSizes(Small):
    def body(self, x):
        zeros = torch.zeros(x.shape[0], 4, x.shape[2], x.shape[3]) + x.new_ones(x.size())
        return x * torch.arange(x.shape[3]) + zeros


SIZE_FREE = [BranchOnRank, LengthOfShape, LoopOverChannels, WholeNumberOfWindows, TensorsOfSizes]
CONTROL_FLOW += [WholeNumberOfWindows, TensorsOfSizes]


@pytest.mark.parametrize("cls", CONTROL_FLOW)
@pytest.mark.parametrize("size", [4, 7, 8])
def test_control_flow_on_shapes_is_followed(cls, size):
    model, x = cls().eval(), torch.randn(3, 3, size, size)
    graph = trace(model, example_inputs=x)
    torch.testing.assert_close(graph(x), model(x))
    assert torch.equal(graph(x[:1]), model(x[:1])), "another batch size"


@pytest.mark.parametrize("cls", SIZE_FREE)
@pytest.mark.parametrize("given", [True, False])
def test_rank_and_channels_do_not_fix_the_image_size(cls, given):
    model = cls().eval()
    graph = trace(model, example_inputs=torch.randn(2, 3, 8, 8) if given else None)
    assert not graph.meta["fixed_image_size"]
    for size in (5, 10):
        x = torch.randn(3, 3, size, size)
        torch.testing.assert_close(graph(x), model(x))


def test_torch_and_the_models_file_are_left_as_they_were():
    originals = torch.zeros, torch.arange, "int" in globals()
    trace(TensorsOfSizes())
    trace(WholeNumberOfWindows())
    with pytest.raises(UnconvertibleError):
        trace(DecidesOnPixels())
    assert (torch.zeros, torch.arange, "int" in globals()) == originals


@pytest.mark.parametrize("cls", [BranchOnSize, SamePadding, CompareShapes])
def test_a_graph_that_followed_sizes_says_so(cls):
    x = torch.randn(2, 3, 8, 8)
    assert trace(cls(), example_inputs=x).meta["fixed_image_size"]
    assert not trace(Small(), example_inputs=x).meta["fixed_image_size"]


class Defaults(Small):
    """Arguments behind the images keep their defaults, as timm's `attn_mask=None`."""

    def forward(self, x, mask=None, *, scale=2.0, **rest):
        x = super().forward(x) * scale
        return x if mask is None else x * mask


class PassesOn(Small):
    def forward(self, *images, **rest):
        return super().forward(*images, **rest)


@pytest.mark.parametrize("cls", [Defaults, PassesOn])
def test_only_the_images_are_an_input(cls):
    model, x = cls().eval(), torch.randn(2, 3, 8, 8)
    graph = trace(model, example_inputs=x)
    assert [n.op for n in graph.graph.nodes].count("placeholder") == 1
    torch.testing.assert_close(graph(x), model(x))


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 8, 8, 8), (2,), (2, 3)])
def test_an_example_that_does_not_fit_is_told_so(shape):
    with pytest.raises(UnconvertibleError) as caught:
        trace(Small(), example_inputs=torch.zeros(shape))
    (offence,) = caught.value.offences
    assert f"{shape}"[:-1] in f"{offence.operation}" and "example_inputs" in offence.remedy
    assert offence.module_path == "conv" and "leaf" not in offence.remedy


def test_wrappers_are_taken_off():
    model, x = Small().eval(), torch.randn(2, 3, 8, 8)
    for wrapped in (nn.DataParallel(model), torch.compile(model)):
        assert torch.equal(trace(wrapped)(x), model(x))
    with pytest.raises(ValueError, match=r"torch\.jit"):
        trace(torch.jit.trace(model, x))


class DecidesOnPixels(Small):
    def body(self, x):
        return x * 2 if x.sum() > 0 else x


class NumberOfPixel(Small):
    def body(self, x):
        return x * float(x.mean())


class BatchAsNumber(Small):
    def body(self, x):
        return torch.cat([x for _ in range(x.shape[0])], 1)[:, :4]


@pytest.mark.parametrize("cls", [DecidesOnPixels, NumberOfPixel, BatchAsNumber])
@pytest.mark.parametrize("example", [None, torch.zeros(2, 3, 8, 8)])
def test_failures_name_file_line_and_source(cls, example):
    with pytest.raises(UnconvertibleError) as caught:
        trace(cls(), example_inputs=example)
    (offence,) = caught.value.offences
    assert offence.source[0] == __file__
    assert f"{__file__}:{offence.source[1]}" in str(caught.value)
    line = open(__file__).read().splitlines()[offence.source[1] - 1].strip()
    assert line in str(caught.value) and "leaf_modules" in str(caught.value)


def test_a_failure_inside_a_module_names_its_path():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(nn.ReLU(), DecidesOnPixels()))
    with pytest.raises(UnconvertibleError, match=r"1\.1"):
        trace(model, example_inputs=torch.zeros(2, 3, 8, 8))


def test_a_module_that_cannot_be_traced_may_be_a_leaf():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), DecidesOnPixels()).eval()
    x = torch.randn(2, 3, 8, 8)
    for leaf, example in itertools.product((DecidesOnPixels, "2", model[2]), (None, x)):
        graph = trace(model, leaf_modules=(leaf,), example_inputs=example)
        assert graph.meta["leaves"] == {"2"}
        assert torch.equal(graph(x), model(x))


def test_source_lines_are_kept_with_the_nodes():
    graph = trace(Small())
    node = next(n for n in graph.graph.nodes if n.target is F.relu)
    assert node.meta["source"][0] == __file__
    line = open(__file__).read().splitlines()[node.meta["source"][1] - 1]
    assert "F.relu" in line


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training):
    model = BranchOnSize().train(training)
    seen = []
    model.conv.register_forward_hook(lambda *_: seen.append("forward"))
    model.conv.register_forward_pre_hook(lambda *_: seen.append("pre"))
    before = copy.deepcopy(model.state_dict())
    graph = trace(model, example_inputs=torch.randn(2, 3, 8, 8))
    assert model.training is training and all(m.training is training for m in model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert len(model.conv._forward_hooks) == 1 and len(model.conv._forward_pre_hooks) == 1
    graph(torch.randn(2, 3, 8, 8))
    assert seen == [], "the user's hooks neither fire nor travel"
    model(torch.randn(2, 3, 8, 8))
    assert seen == ["pre", "forward"], "and the caller's model still has them"


def test_dropout_is_off_even_if_the_model_was_traced_in_training():
    class Drops(Small):
        def body(self, x):
            return F.dropout(x, 0.5, self.training)

    model, x = Drops().train(), torch.randn(2, 3, 8, 8)
    assert torch.equal(trace(model)(x), model.eval()(x))


def test_weights_are_copied():
    model = Small().eval()
    x = torch.randn(2, 3, 8, 8)
    graph = trace(model)
    expected = model(x)
    with torch.no_grad():
        model.conv.weight.zero_()
    assert torch.equal(graph(x), expected)
