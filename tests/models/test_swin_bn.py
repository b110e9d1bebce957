"""Swin with batch norm: parts against plain loops, sizes, and what every layer reads."""

import pytest
import torch
from torch import nn

from spikeswap.convert import insert_qcfs
from spikeswap.models import create_model
from spikeswap.models.swin_bn import TokenBatchNorm
from spikeswap.models.windows import Windows, merge_neighbours, relative_position_index, shift_mask


def small(**overrides):
    return create_model(
        "swin_bn",
        **{
            "num_classes": 5,
            "img_size": 16,
            "in_chans": 1,
            "patch_size": 2,
            "embed_dim": 8,
            "depths": (2, 2),
            "num_heads": (2, 2),
            "window_size": 4,
            **overrides,
        },
    )


def test_swin_t_has_its_published_size():
    model = create_model("swin_t_bn", num_classes=1000, img_size=224, in_chans=3)
    deeper = create_model("swin_s_bn", num_classes=1000, img_size=224, in_chans=3)
    parameters = sum(p.numel() for p in model.parameters())
    assert 28.2e6 <= parameters <= 28.6e6
    assert 48e6 <= sum(p.numel() for p in deeper.parameters()) <= 51e6
    assert sum(isinstance(m, nn.ReLU) for m in model.modules()) == 1 + 12 * 10 + 3 * 2 + 1


def test_every_weight_layer_behind_the_patch_embedding_reads_an_activation():
    """So that it sees spikes once the network is converted; the head reads their mean."""
    graph = insert_qcfs(small())
    for node in graph.graph.nodes:
        if node.op != "call_module" or not isinstance(graph.get_submodule(node.target), nn.Linear):
            continue
        source = node.args[0]
        while source.op != "call_module":
            source = source.args[0]
        assert "act" in source.target.rpartition(".")[2], node.target


def test_windows_split_and_join():
    for side, shift in ((4, 0), (4, 2), (8, 0), (2, 1)):
        windows = Windows(8, side, shift)
        x = torch.arange(2 * 64 * 3).view(2, 64, 3)
        cut = windows.split(x)
        assert cut.shape == (2 * (8 // side) ** 2, side * side, 3)
        assert torch.equal(windows.join(cut), x)
        image = x.view(2, 8, 8, 3)
        for row in range(side):  # the first window, by hand
            for column in range(side):
                expected = image[0, (row + shift) % 8, (column + shift) % 8]
                assert torch.equal(cut[0, row * side + column], expected)


def test_relative_positions_number_each_offset():
    side = 3
    index = relative_position_index(side)
    seen = {}
    for a in range(9):
        for b in range(9):
            offset = (a // 3 - b // 3, a % 3 - b % 3)
            assert seen.setdefault(offset, index[a, b].item()) == index[a, b].item()
    assert sorted(seen.values()) == list(range(25))


def test_shift_mask_forbids_what_only_the_roll_made_neighbours():
    windows = Windows(8, 4, 2)
    mask = shift_mask(windows, forbidden=-1e4)
    place = windows.split(torch.arange(64).view(1, 64, 1)).squeeze(-1)  # original token numbers
    for window in range(4):
        for a in range(16):
            for b in range(16):
                pa, pb = place[window, a].item(), place[window, b].item()
                near = abs(pa // 8 - pb // 8) < 4 and abs(pa % 8 - pb % 8) < 4
                assert (mask[window, a, b] == 0) == near
    assert shift_mask(Windows(8, 4, 0), -1.0) is None


def test_merging_takes_the_four_neighbours():
    x = torch.arange(16).view(1, 16, 1)
    merged = merge_neighbours(x, 4)
    assert merged[0].tolist() == [[0, 4, 1, 5], [2, 6, 3, 7], [8, 12, 9, 13], [10, 14, 11, 15]]


def test_token_batch_norm_is_batch_norm_over_the_last_axis():
    norm, x = TokenBatchNorm(6), torch.randn(4, 7, 6)
    expected = nn.BatchNorm1d(6)(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(norm(x), expected)
    assert norm.state_dict().keys() == nn.BatchNorm1d(6).state_dict().keys()


@pytest.mark.parametrize(
    "img_size, patch_size, window",
    [(16, 2, 4), (16, 4, None), (28, 2, None), (32, 2, 8), (24, 2, 3), (8, 2, 7)],
)
def test_any_size_that_the_windows_allow(img_size, patch_size, window):
    model = small(img_size=img_size, patch_size=patch_size, window_size=window).eval()
    assert model(torch.randn(2, 1, img_size, img_size)).shape == (2, 5)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"img_size": 30}, "28, 32|near sizes"),
        ({"window_size": 3}, "windows that fit"),
        ({"img_size": 0}, "img_size"),
        ({"img_size": -16}, "img_size"),
        ({"norm": "gn"}, "bn, ln"),
        ({"num_heads": (3, 2)}, "heads"),
        ({"window_size": 0}, "window_size"),
    ],
)
def test_impossible_sizes_say_what_works(arguments, words):
    with pytest.raises(ValueError, match=words):
        small(**arguments)


def test_layer_norm_for_comparison():
    model = small(norm="ln")
    assert not any(isinstance(m, nn.BatchNorm1d) for m in model.modules())
    assert sum(isinstance(m, nn.LayerNorm) for m in model.modules()) == 1 + 4 * 4 + 1 + 1


def test_drop_path_grows_with_depth_and_is_off_in_evaluation():
    model = small(drop_path=0.3)
    rates = [
        getattr(model.layers[i].blocks[j].drop_path, "drop_prob", 0.0)
        for i in range(2)
        for j in range(2)
    ]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])
    x = torch.randn(3, 1, 16, 16)
    assert torch.equal(model.eval()(x), model(x))
    for m in model.train().modules():
        if isinstance(m, nn.BatchNorm1d):
            m.eval()
    assert not torch.equal(model(x), model(x))


def test_images_are_independent_and_attention_sees_other_tokens():
    """A change in one corner reaches the logits; one image does not reach another."""
    model, x = small().eval(), torch.randn(2, 1, 16, 16)
    y = model(x)
    torch.testing.assert_close(model(x[1:])[0], y[1], rtol=1e-4, atol=1e-5)
    z = x.clone()
    z[0, 0, 0, 0] += 1
    assert not torch.equal(model(z)[0], y[0])
    torch.testing.assert_close(model(z)[1], y[1])


def test_attention_mixes_tokens_of_a_window_only():
    """Unshifted block of four windows: the gradient of a token stays inside its window."""
    attention = small().layers[0].blocks[0]
    x = torch.randn(1, 64, 8, requires_grad=True)
    attention.eval()(x)[0, 0].sum().backward()
    reached = (x.grad[0].abs().sum(-1) > 0).view(8, 8)
    assert reached[:4, :4].sum() > 1 and not reached[4:].any() and not reached[:, 4:].any()
