"""Batch norms: folded into the layer before them where that is right, else an affine current."""

import pytest
import torch
from torch import nn

from spikeswap.convert.passes.norms import fold_batch_norms, norms_to_affine, scale_and_offset
from spikeswap.models.swin_bn import TokenBatchNorm
from spikeswap.neurons import ChannelAffine

FOLDED = {
    "conv": (lambda: [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)], (2, 3, 6, 6)),
    "no bias": (lambda: [nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)], (2, 3, 6, 6)),
    "grouped": (lambda: [nn.Conv2d(4, 8, 3, groups=2), nn.BatchNorm2d(8)], (2, 4, 6, 6)),
    "depthwise": (lambda: [nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4)], (2, 4, 6, 6)),
    "strided, padded": (lambda: [nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4)], (2, 3, 6, 6)),
    "conv1d": (lambda: [nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)], (2, 3, 6)),
    "conv3d": (lambda: [nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4)], (2, 2, 4, 4, 4)),
    "linear": (lambda: [nn.Linear(5, 4), nn.BatchNorm1d(4)], (3, 5)),
    "linear, tokens": (lambda: [nn.Linear(5, 4), TokenBatchNorm(4)], (3, 7, 5)),
    "no affine": (lambda: [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)], (2, 3, 6, 6)),
    "eps": (lambda: [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=0.1)], (2, 3, 6, 6)),
    "two norms": (lambda: [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)], (2, 3, 6, 6)),
}
KEPT = {
    "on the input": (lambda: [nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1)], (2, 3, 6, 6)),
    "behind an activation": (
        lambda: [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)],
        (2, 3, 6, 6),
    ),
    "before linear": (lambda: [nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 4)], (2, 3, 4)),
    "over tokens, not channels": (lambda: [nn.Linear(5, 4), nn.BatchNorm1d(4)], (3, 4, 5)),
    "tokens": (lambda: [nn.ReLU(), TokenBatchNorm(5), nn.Linear(5, 4)], (3, 7, 5)),
    "transposed": (lambda: [nn.ConvTranspose2d(3, 4, 2, 2), nn.BatchNorm2d(4)], (2, 3, 4, 4)),
}


def build(layers, shape, random_norms, traced, with_example=True):
    model = random_norms(nn.Sequential(*layers())).double()
    x = torch.randn(shape, dtype=torch.double)
    return model, traced(model, x if with_example else None), x


@pytest.mark.parametrize("case", FOLDED)
def test_fold_leaves_no_norm_and_keeps_the_numbers(case, random_norms, traced, types_called):
    model, graph, x = build(*FOLDED[case], random_norms, traced)
    expected = model(x)
    norms = sum(issubclass(t, nn.modules.batchnorm._BatchNorm) for t in types_called(graph))
    assert fold_batch_norms(graph) == norms
    assert len(types_called(graph)) == 1
    torch.testing.assert_close(graph(x), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", KEPT)
def test_what_must_not_be_folded_is_kept(case, random_norms, traced, types_called):
    model, graph, x = build(*KEPT[case], random_norms, traced)
    before = types_called(graph)
    assert fold_batch_norms(graph) == 0
    assert types_called(graph) == before
    torch.testing.assert_close(graph(x), model(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("with_example", [True, False])
@pytest.mark.parametrize("case", [*FOLDED, *KEPT])
def test_fold_and_affine_together_keep_the_numbers(
    case, with_example, random_norms, traced, types_called
):
    """Also when no example tells whether [B, C] or [B, N, C] comes."""
    model, graph, x = build(*{**FOLDED, **KEPT}[case], random_norms, traced, with_example)
    expected = model(x)
    fold_batch_norms(graph)
    norms_to_affine(graph)
    assert not any(issubclass(t, nn.modules.batchnorm._BatchNorm) for t in types_called(graph))
    torch.testing.assert_close(graph(x), expected, rtol=0, atol=1e-10)


def test_norms_that_stay_become_an_affine_current(random_norms, traced, types_called):
    model, graph, x = build(*KEPT["on the input"], random_norms, traced)
    assert norms_to_affine(graph) == 1
    assert types_called(graph) == [ChannelAffine, nn.Conv2d]


def test_nothing_to_do_changes_nothing(traced):
    graph = traced(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    before = list(graph.graph.nodes)
    assert fold_batch_norms(graph) == norms_to_affine(graph) == 0
    assert list(graph.graph.nodes) == before


def test_a_layer_that_others_read_is_not_folded(random_norms, traced, images, types_called):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y) + y

    model = random_norms(Twice()).double()
    graph = traced(model)
    assert fold_batch_norms(graph) == 0
    norms_to_affine(graph)
    torch.testing.assert_close(graph(images), model(images), rtol=0, atol=1e-12)


def test_scale_and_offset_are_batch_norm_in_evaluation(random_norms):
    norm = random_norms(nn.Sequential(nn.BatchNorm1d(5))).double()
    scale, offset = scale_and_offset(norm[0])
    x = torch.randn(7, 5, dtype=torch.double)
    torch.testing.assert_close(x * scale + offset, norm(x))
