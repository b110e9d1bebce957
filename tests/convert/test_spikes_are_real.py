"""Every site's spikes re-made by a plain loop from the spikes of the site before it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.models import create_model
from spikeswap.neurons import CUMULATIVE, NEURONS

T = 12


def replay(kind, current_TB, threshold, levels):
    """What a neuron sends for these currents, in units, written down once more.

    `if`: v = s/2; v += x; a spike when v >= s. The others walk towards the level of the sum of the
    currents, floor(clip(sum / s) L + 1/2), one level or the nearest power of two of levels a step
    (3 levels: 2 or 4, whichever is nearer to the membrane).
    """
    barrier = torch.where(threshold > 0, threshold, torch.inf)  # dead channels never fire
    sent, v = [], torch.zeros_like(current_TB[0]) + threshold / 2
    total, tracer = torch.zeros_like(v), torch.zeros_like(v)
    for x in current_TB:
        if kind == "if":
            v = v + x
            spike = (v >= barrier).double()
            v = v - spike * threshold
        else:
            total = total + x
            goal = torch.floor((total / barrier).clamp(0, 1) * levels + 0.5)
            distance = goal - tracer
            if kind == "stbif":
                spike = distance.clamp(-1, 1)
            else:
                size = distance.abs()
                power = 2.0 ** torch.floor(torch.log2(size.clamp(min=1)))
                exact = ((total / barrier).clamp(0, 1) * levels - tracer).abs()
                middle = 1.5 * power  # a distance of whole levels half-way goes by the membrane
                up = (
                    ((size > middle) | ((size == middle) & (exact > middle + 1e-9)))
                    & (0 <= tracer + distance.sign() * 2 * power)
                    & (tracer + distance.sign() * 2 * power <= levels)
                )
                spike = distance.sign() * torch.where(up, 2 * power, power) * (size > 0)
            tracer = tracer + spike
        sent.append(spike)
    return torch.stack(sent).to(torch.int64)


class Chain(nn.Module):
    """Convolutions with norms, a shortcut and average pooling."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1, self.act1 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm2, self.act2 = nn.BatchNorm2d(4), nn.ReLU()
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = self.act1(self.norm1(self.conv1(x)))
        x = self.act2(self.norm2(self.conv2(x)) + x)
        return self.head(F.avg_pool2d(x, 6).flatten(1))


def once(kind, x):
    """A constant [B, ...] as currents [T, B, ...]: in each step (rate) or in the first one."""
    currents = x.expand(T, *x.shape).clone()
    if NEURONS[kind].coding is CUMULATIVE:
        currents[1:] = 0
    return currents


def over_time(layer, x_TB):
    return layer(x_TB.flatten(0, 1)).unflatten(0, (len(x_TB), -1))


@pytest.mark.parametrize("kind", list(NEURONS))
def test_a_chain_of_convolutions(kind, quantised):
    """With the weights of the *original* network: conv and norm are folded by hand here."""
    images = torch.randn(2, 3, 8, 8, dtype=torch.double)
    model = quantised(Chain(), images, levels=8)
    snn = convert_model(model, neuron=kind)
    with snn.record() as spikes:
        readout = snn(images, timesteps=T)
    assert list(spikes) == ["act1", "act2"]

    s1, s2 = (model.get_submodule(n).threshold.detach().view(-1, 1, 1) for n in ("act1", "act2"))
    first = once(kind, model.norm1(model.conv1(images)).detach())
    assert torch.equal(spikes["act1"].long(), replay(kind, first, s1, 8))

    scale = model.norm2.weight / (model.norm2.running_var + model.norm2.eps).sqrt()
    offset = model.norm2.bias - model.norm2.running_mean * scale
    weight = model.conv2.weight * scale.view(-1, 1, 1, 1)
    sent = spikes["act1"] * snn.sites["act1"].unit
    current = over_time(lambda x: F.conv2d(x, weight, padding=1), sent) + sent
    current = (current + once(kind, offset.view(1, -1, 1, 1).expand_as(current[0]))).detach()
    assert torch.equal(spikes["act2"].long(), replay(kind, current, s2, 8))

    sent = spikes["act2"] * snn.sites["act2"].unit
    logits = over_time(lambda x: F.linear(F.avg_pool2d(x, 6).flatten(1), model.head.weight), sent)
    logits = logits + once(kind, model.head.bias.expand_as(logits[0]))
    expected = logits.cumsum(0)
    if kind == "if":
        expected = expected / torch.arange(1, T + 1).view(-1, 1, 1)
    torch.testing.assert_close(readout, expected.detach(), rtol=0, atol=1e-10)
    assert (readout[0] - readout[-1]).abs().max() > 1e-3


def small_swin():
    return create_model(
        "swin_bn",
        num_classes=5,
        img_size=16,
        in_chans=1,
        patch_size=2,
        embed_dim=8,
        depths=(2,),
        num_heads=(2,),
        window_size=4,
    )


def running(kind, stream_TB):
    sums = stream_TB.cumsum(0)
    count = torch.arange(1, T + 1, dtype=torch.double).view(-1, *[1] * (stream_TB.dim() - 1))
    return sums / count if kind == "if" else sums


def increments(kind, running_TB):
    """The stream whose running value this is: t f(t) - (t-1) f(t-1), or plain differences."""
    count = torch.arange(1, T + 1, dtype=torch.double).view(-1, *[1] * (running_TB.dim() - 1))
    total = running_TB * count if kind == "if" else running_TB
    return torch.diff(total, dim=0, prepend=torch.zeros_like(total[:1]))


@pytest.mark.parametrize("kind", list(NEURONS))
def test_a_swin_block_site_by_site(kind, quantised):
    """Attention of a shifted window on running values, MLP and shortcuts on spikes."""
    images = torch.randn(2, 1, 16, 16, dtype=torch.double)
    model = quantised(small_swin(), images, levels=8)
    snn = convert_model(model, neuron=kind)
    with snn.record() as spikes:
        snn(images, timesteps=T)
    name = "layers.0.blocks.1"
    block = model.get_submodule(name)

    def threshold(site):
        return model.get_submodule(site).threshold.detach()

    def sent(site):
        return spikes[site] * snn.sites[site].unit

    def same(site, current):
        found = spikes[site].long()
        assert torch.equal(found, replay(kind, current, threshold(site), 8)), site
        assert found.any() and not found.all(), site

    original = small_swin().get_submodule(name)  # for its windows alone
    split, join = original.windows.split, original.windows.join
    assert original.windows.shift > 0
    # the residual stream in front of this block, from the spikes of all sites that feed it
    before = sent("patch_embed.act") + over_time(
        join_of(small_swin(), 0), sent("layers.0.blocks.0.attn.proj_act")
    )
    before = before + sent("layers.0.blocks.0.mlp.out_act")

    def affine(norm, x_TB):
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        offset = norm.bias - norm.running_mean * scale
        return (x_TB * scale + once(kind, offset.expand_as(x_TB[0]))).detach()

    def linear(layer, x_TB):
        y = x_TB @ layer.weight.t()
        return (y + once(kind, layer.bias.expand_as(y[0]))).detach()

    same(f"{name}.act1", affine(block.norm1, before))
    branch = over_time(split, sent(f"{name}.act1"))
    parts = linear(block.attn.qkv, branch).unflatten(-1, (3, 2, 4)).permute(3, 0, 1, 4, 2, 5)
    for part, site in zip(parts, ("q_act", "k_act", "v_act"), strict=True):
        same(f"{name}.attn.{site}", part)
    q, k, v = (running(kind, sent(f"{name}.attn.{s}")) for s in ("q_act", "k_act", "v_act"))
    scores = q @ k.transpose(-2, -1) * 4**-0.5
    same(f"{name}.attn.scores_act", increments(kind, scores))
    scores = running(kind, sent(f"{name}.attn.scores_act"))
    table = block.attn.relative_position_bias_table.detach()
    bias = table[original.attn.relative_position_index.flatten()].view(16, 16, 2).permute(2, 0, 1)
    bias = bias + original.attn.shift_mask.double().unsqueeze(1)
    scores = scores.unflatten(1, (-1, len(bias))) + bias
    out = scores.flatten(1, 2).softmax(-1) @ v
    same(f"{name}.attn.out_act", increments(kind, out))
    merged = sent(f"{name}.attn.out_act").transpose(2, 3).flatten(-2)
    same(f"{name}.attn.proj_act", linear(block.attn.proj, merged))
    stream = before + over_time(join, sent(f"{name}.attn.proj_act"))
    same(f"{name}.act2", affine(block.norm2, stream))
    hidden = affine(block.mlp.norm1, linear(block.mlp.fc1, sent(f"{name}.act2")))
    same(f"{name}.mlp.act", hidden)
    same(
        f"{name}.mlp.out_act",
        affine(block.mlp.norm2, linear(block.mlp.fc2, sent(f"{name}.mlp.act"))),
    )


def join_of(model, block):
    return model.get_submodule(f"layers.0.blocks.{block}").windows.join


def test_recorded_values_lie_in_the_alphabet_and_end_at_the_levels_of_qcfs(quantised):
    """Site by site, for the cumulative neurons; {0, 1} for `if`."""
    images = torch.randn(2, 1, 16, 16, dtype=torch.double)
    model = quantised(small_swin(), images, levels=8)
    levels = {}
    for name in convert_model(model).sites:
        model.get_submodule(name).register_forward_hook(
            lambda site, _i, out, name=name: levels.update({name: (out / site.unit).nan_to_num()})
        )  # a dead channel has unit 0
    model(images)
    for kind in NEURONS:
        snn = convert_model(model, neuron=kind)
        with snn.record() as spikes:
            snn(images, timesteps=48)
        for name, counts in spikes.items():
            assert not counts.dtype.is_floating_point
            assert set(counts.unique().tolist()) <= set(snn.sites[name].alphabet)
            if kind != "if":
                sums = counts.long().cumsum(0)
                assert sums.min() >= 0 and sums.max() <= 8, name
                torch.testing.assert_close(
                    sums[-1].double(), levels[name].detach(), rtol=0, atol=1e-6, msg=name
                )


def test_alphabet_of_the_network_is_in_its_info(quantised):
    model = quantised(Chain(), torch.randn(2, 3, 8, 8, dtype=torch.double), levels=8)
    values = {kind: convert_model(model, neuron=kind).info["spike_values"] for kind in NEURONS}
    assert values == {"if": [0, 1], "stbif": [-1, 0, 1], "multi": [-8, -4, -2, -1, 0, 1, 2, 4, 8]}


def test_thresholds_differ_by_channel_and_units_fit_the_recordings(quantised):
    images = torch.randn(2, 3, 8, 8, dtype=torch.double)
    model = quantised(Chain(), images, levels=8)
    snn = convert_model(model, neuron="multi")
    with snn.record("act2") as spikes:
        snn(images, timesteps=40)
    assert list(spikes) == ["act2"] and snn.sites["act2"].unit.numel() == 4
    final = (spikes["act2"] * snn.sites["act2"].unit).sum(0)
    seen = []
    model.act2.register_forward_hook(lambda _m, _i, out: seen.append(out))
    model(images)
    torch.testing.assert_close(final, seen[0].detach(), rtol=0, atol=1e-9)


def test_insert_qcfs_is_needed_for_plain_relu():
    with pytest.raises(ValueError, match="insert_qcfs"):
        convert_model(Chain())
    assert convert_model(insert_qcfs(Chain())).sites.keys() == {"act1", "act2"}
