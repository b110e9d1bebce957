"""Hand-computed networks: exactly these MACs and ACs, and no others."""

import pytest
import torch
from torch import nn

from spikeswap.counting import OperationCounter, settle


class Fire(nn.Module):
    """A user's own neuron: spikes where the input reaches the threshold, scaled."""

    def __init__(self, threshold=0.5, height=1.0):
        super().__init__()
        self.threshold, self.height = threshold, height

    def forward(self, x):
        return (x >= self.threshold).to(x) * self.height


def count(model, images, steps=1, spiking=True, runs=1, **how):
    counter = OperationCounter(model, spiking, **how)
    with torch.no_grad(), counter.attached():
        for _ in range(runs):
            with counter.forward(images, steps) as marked:
                model(marked)
            counter.close(len(images), steps)
    return settle(counter.ledger, spiking)


def test_conv_with_stride_and_padding():
    """3x3, stride 2, padding 1 on 4x4: rows and columns reach 1, 1, 2, 1 outputs."""
    conv = nn.Conv2d(1, 5, 3, stride=2, padding=1, bias=False)
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 0, 0] = image[0, 0, 1, 1] = image[0, 0, 3, 3] = 1
    totals = count(nn.Sequential(Fire(), conv), image)
    # reach by axis: 0 -> o0; 1 -> o0, o1; 2 -> o1; 3 -> o1
    reach = [1, 2, 1, 1]
    expected = 5 * (reach[0] * reach[0] + reach[1] * reach[1] + reach[3] * reach[3])
    assert (totals.acs, totals.macs) == (expected, 0)
    assert totals.synapses == 5 * sum(reach) ** 2
    assert totals.rate_estimate == pytest.approx(3 / 16 * 4 * 9 * 5)


def test_grouped_conv():
    """Two groups of two: a spike reaches the two channels of its own group."""
    conv = nn.Conv2d(4, 4, 1, groups=2, bias=False)
    image = torch.zeros(1, 4, 3, 3)
    image[0, :3, 1, 1] = 1
    totals = count(nn.Sequential(Fire(), conv), image)
    assert (totals.acs, totals.macs, totals.synapses) == (3 * 2, 0, 4 * 9 * 2)


def test_linear_and_bias():
    layer = nn.Linear(6, 7)
    image = torch.tensor([[1.0, 0, 0, 1, 0, 1], [1, 0, 0, 0, 0, 0]])
    totals = count(nn.Sequential(Fire(), layer), image)
    assert totals.acs == (3 + 1) * 7 / 2
    assert totals.macs == 0
    assert totals.other["bias"] == 7


def test_the_image_layer_is_macs_with_padding_counted():
    conv = nn.Conv2d(3, 8, 3, padding=1)
    totals = count(nn.Sequential(conv, Fire(), nn.Conv2d(8, 2, 1)), torch.rand(2, 3, 5, 5))
    assert totals.macs == 5 * 5 * 9 * 3 * 8
    assert totals.image_macs == totals.macs
    assert [op.image for op in totals.operations] == [True, False]


def test_height_does_not_count():
    images = torch.rand(3, 10)
    totals = [count(nn.Sequential(Fire(height=h), nn.Linear(10, 4)), images) for h in (1.0, 0.37)]
    assert totals[0].acs == totals[1].acs > 0
    assert [t.operations[0].input for t in totals] == ["spikes {0,1}", "spikes {0,s}"]


def test_residual_sum_of_spikes_is_multi_level():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.fire, self.layer, self.head = Fire(), nn.Linear(5, 5, bias=False), nn.Linear(5, 2)
            self.layer.weight.data = torch.eye(5).roll(1, 0)  # moves each spike by one place

        def forward(self, x):
            first = self.fire(x)
            return self.head(first + self.fire(self.layer(first)))

    image = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0]])
    totals = count(Residual(), image)  # 1, 1, 0, 0, 0 and 0, 1, 1, 0, 0
    assert totals.operations[1].input == "multi-level spikes {0..2}"
    assert totals.acs == 2 * 5 + 3 * 2  # an event of height 2 counts once
    assert totals.macs == 0


def test_averaged_spikes_are_macs_and_pooled_maxima_are_spikes():
    images = (torch.rand(2, 1, 4, 4) > 0.5).float()
    average = nn.Sequential(Fire(), nn.AvgPool2d(2), nn.Conv2d(1, 3, 1))
    assert count(average, images).macs == 4 * 3
    maximum = nn.Sequential(Fire(), nn.MaxPool2d(2), nn.Conv2d(1, 3, 1))
    totals = count(maximum, images)
    pooled = torch.nn.functional.max_pool2d(images, 2)
    assert (totals.macs, totals.acs) == (0, int(pooled.sum()) * 3 / 2)
    assert totals.other["pooling"] == 4 * 4


class Attention(nn.Module):
    """q k^T of spikes with spikes, the scores (analog) with v (spikes)."""

    def __init__(self, softmax):
        super().__init__()
        self.fire, self.softmax = Fire(), softmax

    def forward(self, qkv):
        q, k, v = self.fire(qkv).unbind(1)
        scores = q @ k.transpose(-1, -2)
        return (scores.softmax(-1) if self.softmax else scores) @ v


@pytest.mark.parametrize("softmax", [True, False])
def test_attention_products(softmax):
    torch.manual_seed(0)
    qkv = (torch.rand(2, 3, 4, 6) > 0.6).float()  # [B, 3, N, d]
    totals = count(Attention(softmax), qkv)
    q, k, v = qkv.unbind(1)
    meet = sum(
        int(q[b, i, c] and k[b, j, c])
        for b in range(2)
        for i in range(4)
        for j in range(4)
        for c in range(6)
    )
    scores, mixed = totals.operations
    assert scores.acs == meet / 2
    assert scores.input == "spikes {0,1}"
    assert mixed.macs == 0
    if softmax:  # each spike of v is added to 4 outputs, weighted
        assert mixed.acs == int(v.sum()) * 4 / 2
        assert mixed.input == "spikes {0,1} with analog"
        assert totals.other["softmax"] == 16


def test_products_of_analog_values_are_macs():
    class Product(nn.Module):
        def forward(self, x):
            x = x.mul(0.5).relu()
            return x @ x.transpose(-1, -2)

    totals = count(Product(), torch.rand(2, 3, 4))
    assert (totals.macs, totals.acs) == (3 * 4 * 3, 0)


def test_an_ann_is_all_macs():
    ann = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 4, 3)
    ).eval()
    totals = count(ann, torch.rand(5, 1, 4, 4), spiking=False)
    assert (totals.macs, totals.acs) == (4 * 9 * 2 + 8 * 3, 0)
    assert totals.other == {"activation": 8, "bias": 8 + 3, "normalisation": 8}


def test_an_image_that_is_repeated_over_time_counts_once():
    class Repeated(nn.Module):
        def __init__(self, how):
            super().__init__()
            self.how, self.conv, self.norm = how, nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
            self.fire, self.head = Fire(), nn.Linear(8, 3, bias=False)

        def forward(self, x, steps=4):
            if self.how == "loop":
                outs = [
                    self.head(self.fire(self.norm(self.conv(x))).flatten(1)) for _ in range(steps)
                ]
                return torch.stack(outs)
            if self.how == "repeat":
                x = x.unsqueeze(0).repeat(steps, 1, 1, 1, 1).flatten(0, 1)
            elif self.how == "expand":
                x = x.expand(steps, *x.shape).reshape(-1, *x.shape[1:])
            elif self.how == "stack":
                x = torch.stack([x] * steps).flatten(0, 1)
            elif self.how == "cat":
                x = torch.cat([x] * steps)
            else:
                x = self.norm(self.conv(x)).unsqueeze(0).repeat(steps, 1, 1, 1, 1)
                return self.head(self.fire(x).flatten(2))
            return self.head(self.fire(self.norm(self.conv(x))).flatten(1))

    images = torch.rand(3, 1, 4, 4)
    torch.manual_seed(0)
    state = Repeated("loop").state_dict()
    seen = set()
    for how in ("loop", "repeat", "expand", "stack", "cat", "before"):
        model = Repeated(how).eval()
        model.load_state_dict(state)
        totals = count(model, images, steps=4)
        seen.add((totals.macs, totals.acs, totals.other["normalisation"], totals.synapses))
    macs, acs, normalisation, synapses = seen.pop()
    assert not seen
    assert (macs, normalisation, synapses) == (4 * 9 * 2, 8, 8 * 3)
    assert acs % 4 == 0 or acs > 0


def test_a_repeated_channel_is_no_repeated_time():
    class Grey(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return self.conv(x.repeat(1, 3, 1, 1))

    assert count(Grey(), torch.rand(2, 1, 4, 4), steps=3).macs == 16 * 3 * 2


def test_event_frames_are_looked_at():
    class Events(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 1, bias=False)

        def forward(self, frames):  # [B, T, 2, H, W]
            return self.conv(frames.transpose(0, 1).flatten(0, 1))

    frames = torch.randint(0, 3, (2, 4, 2, 3, 3)).float()
    totals = count(Events(), frames, steps=4)
    assert (totals.macs, totals.acs) == (0, int((frames != 0).sum()) * 3 / 2)
    assert count(Events(), frames * 0.3 + 0.1, steps=4).macs == 4 * 9 * 2 * 3


def test_spikes_or_analog_is_settled_over_the_whole_run():
    class Sometimes(nn.Module):
        """Sends whole numbers, but not for bright images."""

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2, bias=False)

        def forward(self, x):
            return self.layer(
                torch.where(x > 0.5, x.round() + x, 0 * x).floor()
                if x.max() < 0.9
                else (x.round() * 0.3 + 0.7 * x.floor()) / 1.7 + x.round() / 2
            )

    dim, bright = torch.full((2, 4), 0.6), torch.tensor([[0.95, 0.1, 0.2, 0.8]] * 2)
    model = Sometimes()
    alone = count(model, dim)
    assert (alone.macs, alone.acs) == (0, 8)
    counter = OperationCounter(model, True)
    with torch.no_grad(), counter.attached():
        for images in (dim, bright * torch.tensor([1.0, 0, 0, 1]), dim):
            with counter.forward(images) as marked:
                model(marked)
            counter.close(2, 1)
    kinds = settle(counter.ledger, True).operations[0]
    assert (kinds.macs > 0) != (kinds.acs > 0)  # one reading for the run, not one a batch


def test_a_shared_layer_counts_at_each_of_its_places():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fire, self.layer = Fire(0.0), nn.Linear(4, 4, bias=False)

        def forward(self, x):
            return self.layer(self.fire(x)) + self.layer(self.fire(-x - 1))

    totals = count(Twice(), torch.rand(3, 4))
    assert totals.acs == 4 * 4  # all fire at the first place, none at the second
    assert totals.synapses == 2 * 16


def test_what_has_no_handle_is_listed():
    class Exotic(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x) + torch.fft.fft(x).real

    totals = count(Exotic(), torch.rand(2, 8))
    assert any("bessel" in name for name in totals.uncounted)
    assert any("fft" in name for name in totals.uncounted)


def test_fused_attention_counts_like_its_parts():
    class Fused(nn.Module):
        def forward(self, x):
            q, k, v = x.relu().unbind(1)
            return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    x = torch.rand(2, 3, 4, 5, 8)  # q, k, v [2, 4, 5, 8]
    totals = count(Fused(), x)
    assert totals.macs == 2 * 4 * 5 * 5 * 8  # both products of one image with 4 heads
    assert totals.acs == 0
