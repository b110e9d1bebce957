"""SpikingResformer: firing-rate scales, ablations, variants that cannot be built."""

import logging

import pytest
import torch

from spikeswap.models import create_model
from spikeswap.models.spikingresformer import DSSA, GWSFFN

SMALL = {
    "widths": (16, 32, 32),
    "num_heads": (1, 2, 4),
    "group_size": 16,
    "depths": (1, 1, 1),
    "img_size": 16,
}


def small(**more):
    torch.manual_seed(0)
    return create_model("spikingresformer", **{**SMALL, **more})


def rates(model):
    return {name: b.clone() for name, b in model.named_buffers() if "firing_rate" in name}


def test_a_fresh_network_says_that_its_attention_is_silent():
    model = small().eval()
    images = torch.randn(2, 3, 16, 16)
    with pytest.raises(ValueError, match="load_published.*train mode"):
        model(images)
    model.train()
    with torch.no_grad():
        model(images)
    assert all(rate.all() for rate in rates(model).values())
    assert torch.isfinite(model.eval()(images)).all()
    assert torch.isfinite(small(scaling=False).eval()(images)).all()
    assert torch.isfinite(small(attention=False).eval()(images)).all()


def test_rates_move_slowly_in_training_and_stay_in_evaluation():
    model = small().train()
    with torch.no_grad():
        model(torch.randn(4, 3, 16, 16))
        first = rates(model)
        model(3 + torch.randn(4, 3, 16, 16))
        second = rates(model)
        model.eval()(torch.randn(4, 3, 16, 16))
    for name, rate in rates(model).items():
        assert torch.equal(rate, second[name])
        assert not torch.equal(rate, first[name])
        assert (rate - first[name]).abs().max() <= 0.001


def test_loaded_rates_are_not_measured_anew():
    model = small().train()
    with torch.no_grad():
        model(torch.randn(4, 3, 16, 16))
    again = small().train()
    again.load_state_dict(model.state_dict())
    before = rates(again)
    with torch.no_grad():
        again(3 + torch.randn(4, 3, 16, 16))
    for name, rate in rates(again).items():
        assert (rate - before[name]).abs().max() <= 0.001


def test_a_silent_head_gives_no_nan():
    model = small().train()
    attention = next(module for module in model.modules() if isinstance(module, DSSA))
    with torch.no_grad():
        attention.norm.bn.weight.zero_()  # scores are 0: no attention spike, ever
    loss = model(torch.randn(4, 3, 16, 16)).square().mean()
    loss.backward()
    assert not attention.firing_rate_attn.any()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@torch.no_grad()
def test_heads_split_their_own_channels():
    """Each head owns 2d neighbouring channels: d for the scores, d for the values."""
    torch.manual_seed(0)
    heads, width, patch, side = 2, 3, 2, 4
    dim = heads * width

    from spikeswap.models.direct import spiking_neuron

    attention = DSSA(
        dim, heads, patch, (side // patch) ** 2, lambda: spiking_neuron("lif", gradient="atan")
    ).eval()
    attention.firing_rate_x.fill_(0.3)
    attention.firing_rate_attn.copy_(torch.tensor([0.2, 0.5]).view(1, 1, 2, 1, 1))
    seen = {}
    for name in ("activation_in", "norm", "activation_attn", "activation_out"):
        getattr(attention, name).register_forward_hook(
            lambda m, args, out, name=name: seen.update({name: (args[0], out)})
        )
    attention(4 * torch.rand(1, 1, dim, side, side))
    spikes = seen["activation_in"][1][0, 0].flatten(1)  # [C, N]
    mixed = seen["norm"][1][0].flatten(1)  # [2C, N']
    scores, attn = (side_[0, 0] for side_ in seen["activation_attn"])  # [h, N', N]
    out = seen["activation_out"][0][0, 0].flatten(1)
    for head, rate in enumerate((0.2, 0.5)):
        own = spikes[head * width : (head + 1) * width]
        left = mixed[2 * head * width : (2 * head + 1) * width]
        right = mixed[(2 * head + 1) * width : (2 * head + 2) * width]
        expected = left.T @ own / (0.3 * width) ** 0.5
        torch.testing.assert_close(scores[head], expected)
        expected = right @ attn[head] / (rate * 4) ** 0.5
        torch.testing.assert_close(out[head * width : (head + 1) * width], expected)


def test_ties_fire():
    neuron = small().layers[0][0].activation_in
    with torch.no_grad():
        assert neuron(torch.full((1, 1, 2), 2.0)).all()  # v = 2 / tau = the threshold
    assert neuron.surrogate_function.alpha == 2.0


@torch.no_grad()
def test_plif_at_its_start_is_lif():
    lif = small().train()
    lif(torch.randn(4, 3, 16, 16))
    plif = small(neuron="plif").eval()
    missing, unknown = plif.load_state_dict(lif.state_dict(), strict=False)
    assert len(missing) == 3 * 6 + 2
    assert not unknown
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(plif(images), lif.eval()(images))


def test_ablations_leave_their_part_out():
    whole = small()
    for override, part in (({"group_conv": False}, ".conv.0."), ({"attention": False}, ".W.")):
        ablated = small(**override)
        names = [name for name, _ in ablated.named_parameters()]
        assert not any(part in name for name in names if name.startswith("layers"))
        assert len(names) < len(list(whole.named_parameters()))
    assert any(isinstance(module, GWSFFN) for module in small(attention=False).modules())
    single = small(widths=(32,), num_heads=(4,), depths=(3,), patch_sizes=(1,))
    assert len(single.layers) == 1
    with torch.no_grad():
        assert single.train()(torch.randn(2, 3, 16, 16)).shape == (4, 2, 10)


def test_another_image_size_keeps_the_scale_and_says_so(caplog):
    model = small().train()
    with torch.no_grad(), caplog.at_level(logging.WARNING):
        model(torch.randn(2, 3, 16, 16))
        assert not caplog.records
        model.eval()(torch.randn(2, 3, 32, 32))
        model(torch.randn(2, 3, 32, 32))
    assert len(caplog.records) == 1
    assert "img_size=32" in caplog.text
    scales = [m.tokens for m in small(img_size=32).modules() if isinstance(m, DSSA)]
    assert scales == [64, 64, 64]


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"num_heads": (1, 3, 4)}, r"num_heads\[1\] may be 1, 2, 4"),
        ({"num_heads": (1, 2)}, "one number for each"),
        ({"img_size": 30}, "28 or 32"),
        ({"stem": "imagenet", "img_size": 24}, "16 or 32"),
        ({"stem": "imgnet"}, "did you mean imagenet"),
        ({"neuron": "if"}, "known: lif, plif|did you mean"),
        ({"group_size": 48}, "group_size may be 1, 2"),
        ({"widths": 64}, "one number for each stage"),
        ({"widths": ()}, "one number for each stage"),
        ({"depths": (1, 0, 1)}, r"depths\[1\]"),
    ],
)
def test_impossible_variants_say_what_is_possible(overrides, message):
    with pytest.raises(ValueError, match=message):
        small(**overrides)
