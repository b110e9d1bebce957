"""What leaves computes what the spiking network computes, spike by spike, and what cannot is refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.export import UnexportableError, export
from spikeswap.export.layers import Flatten, Neurons, Pool, Weighted
from spikeswap.export.lowering import lower
from spikeswap.export.passes import linear_to_convolutions, write_out_groups
from spikeswap.export.simulation import obedience, simulate
from spikeswap.models import create_model


@pytest.mark.parametrize("thresholds", ["per channel", "per tensor"])
@pytest.mark.parametrize("which", ["Block", "LinearBottlenecks"])
@pytest.mark.parametrize("averages", [False, True])
def test_layers_spike_as_the_network(small, which, thresholds, averages):
    snn, images = small.converted(getattr(small, which)(), thresholds)
    layers = lower(snn, images, averages)
    with snn.record() as spikes:
        readout = snn(images, timesteps=12)
    assert sum(int(sent.sum()) for sent in spikes.values()) > 100  # it does something
    for change in (lambda n: None, write_out_groups, linear_to_convolutions):
        change(layers)
        outputs, sent = simulate(layers, images, 12)
        assert spikes.keys() == sent.keys()
        for site in sent:
            assert torch.equal(spikes[site].bool().flatten(2), sent[site].flatten(2)), site
        mean = snn.coding.read(outputs.flatten(2).cumsum(0), layers.readout)
        torch.testing.assert_close(mean, readout, rtol=1e-10, atol=1e-12)
    assert not any(layer.groups > 1 for layer in layers.weighted)
    assert not any(isinstance(layer, Flatten) for layer in layers.layers.values())


class Odd(nn.Module):
    """One layer in both operands of a sum, functions for pools, a mean, differences with factors."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = torch.relu(self.a(x))
        y = torch.relu(torch.sub(x + x, self.b(x), alpha=0.5) / 2 - x * 0.25)
        y = F.adaptive_avg_pool2d(F.avg_pool2d(y, 3, 1, 1), 4)
        return self.head(torch.relu(1.5 - self.b(y)).mean((-1, -2)))


def test_odd_sums_and_functions(small):
    snn, images = small.converted(Odd())
    layers = lower(snn, images)
    outputs, sent = simulate(layers, images, 12)
    with snn.record() as spikes:
        readout = snn(images, timesteps=12)
    assert all(torch.equal(spikes[site].bool(), sent[site]) for site in sent)
    mean = snn.coding.read(outputs.cumsum(0), layers.readout)
    torch.testing.assert_close(mean, readout, rtol=1e-10, atol=1e-12)
    for layer in layers.layers.values():
        assert len({*layer.inputs}) == len(layer.inputs)  # readers drop an edge that stands twice


@pytest.mark.parametrize("dims", [2, 1, (1, 2), (1, 2, 3)])
def test_a_mean_over_other_axes_is_refused(small, dims, tmp_path):
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 8, 3, padding=1)  # as many channels as rows and columns

        def forward(self, x):
            x = torch.relu(self.conv(x)).mean(dims)
            return x.flatten(1) if dims != (1, 2, 3) else x.unsqueeze(1)

    snn, images = small.converted(Mean())
    error = refusal(snn.float(), images.float(), tmp_path)
    assert "mean" in str(error)


def test_every_threshold_is_one_and_pools_are_sums(small):
    snn, images = small.converted(small.Block())
    layers = lower(snn, images)
    assert {layer.threshold for layer in layers.neurons} == {1.0}
    pools = [layer for layer in layers.layers.values() if isinstance(layer, Pool)]
    assert pools and not any(pool.average for pool in pools)


@pytest.mark.parametrize("name", ["resnet18", "resnet20", "vgg16"])
def test_our_networks(name):
    small = {
        "resnet18": {"widths": (4, 6, 8, 8)},
        "resnet20": {"widths": (4, 6, 8)},
        "vgg16": {"stages": ((4,), (6,), (8,)), "hidden": 16},
    }[name]
    model = create_model(name, num_classes=5, img_size=16, in_chans=1, **small)
    model.train()
    with torch.no_grad():
        model(torch.rand(32, 1, 16, 16))
    snn = convert_model(insert_qcfs(model, levels=8, threshold=1.5), neuron="if", mask=0).double()
    images = torch.rand(3, 1, 16, 16, dtype=torch.float64)
    outputs, sent = simulate(lower(snn, images), images, 12)
    with snn.record() as spikes:
        readout = snn(images, timesteps=12)
    assert all(torch.equal(spikes[site].bool(), sent[site]) for site in spikes)
    torch.testing.assert_close(outputs.mean(0), readout[-1], rtol=1e-10, atol=1e-12)


def test_a_dead_channel_stays_silent(small):
    snn, images = small.converted(small.Block())
    threshold = snn.sites["first.2"].neuron.threshold
    threshold.view(8)[3:5] = 0.0
    with snn.record() as spikes:
        snn(images, timesteps=12)
    assert not spikes["first.2"][:, :, 3:5].any()
    _, sent = simulate(lower(snn, images), images, 12)
    assert all(torch.equal(spikes[name].bool(), sent[name]) for name in sent)


def test_a_bias_in_place_of_the_start(small):
    """The charge of T steps is that of a start at half the threshold; neurons start at 0."""
    snn, images = small.converted(small.Block())
    plain, biased = lower(snn, images), lower(snn, images, bias_steps=12)
    assert {layer.starts_at for layer in plain.neurons} == {0.5}
    assert {layer.starts_at for layer in biased.neurons} == {0.0}
    for layer in biased.neurons:
        first = next(n for n in layer.inputs if biased.layers[n].bias is not None)
        before = plain.layers[first].bias
        added = biased.layers[first].bias - (0 if before is None else before)
        torch.testing.assert_close(added, torch.full_like(added, 0.5 / 12))


def test_judging_finds_a_single_wrong_spike(small):
    snn, images = small.converted(small.Block())
    layers = lower(snn, images)
    outputs, sent = simulate(layers, images, 12)
    clean = obedience(layers, images, sent, outputs)
    assert (clean.breaches, clean.ties, clean.readout_error) == (0, 0, 0.0)
    assert clean.spikes == sum(values.numel() for values in sent.values())
    sent["act"][11, 2, 3, 4, 4] ^= True  # the last step: nothing after it in its own neuron
    found = obedience(layers, images, sent, outputs)
    assert found.layers["act"] == 1 and found.breaches >= 1


def refusal(snn, images, tmp_path):
    with pytest.raises(UnexportableError) as error:
        export(snn, tmp_path / "out", example=images, timesteps=12)
    assert not (tmp_path / "out").exists() and not list(tmp_path.iterdir())
    return error.value


def test_a_maximum_is_refused_alone(small, tmp_path):
    model = small.Block()
    model.pool = nn.MaxPool2d(2)
    snn, images = small.converted(model)
    error = refusal(snn.float(), images.float(), tmp_path)
    assert [offence.module_path for offence in error.offences] == ["pool"]
    assert "average pooling" in str(error)


@pytest.mark.parametrize("neuron", ["stbif", "multi"])
def test_signed_spikes_are_refused(neuron, tmp_path):
    model = create_model("resnet20", num_classes=5, img_size=8, in_chans=1, widths=(4, 4, 4))
    snn = convert_model(insert_qcfs(model.eval(), levels=4), neuron=neuron, mask=0)
    error = refusal(snn, torch.rand(1, 1, 8, 8), tmp_path)
    assert {o.module_path for o in error.offences} == {*snn.sites}
    assert "--neuron if" in str(error)


def test_a_swin_is_refused_with_its_whole_list(tmp_path):
    model = create_model("swin_nano_bn", num_classes=5, img_size=32, in_chans=1)
    snn = convert_model(insert_qcfs(model.eval(), levels=4), neuron="if", mask=0)
    error = refusal(snn, torch.rand(1, 1, 32, 32), tmp_path)
    words = [offence.operation.lower() for offence in error.offences]
    blocks = sum("softmax" in word for word in words)
    assert blocks == sum("qkv" in name for name, _ in model.named_modules())
    assert sum("matmul" in word or "@" in word for word in words) == 2 * blocks


def test_masks_and_a_bias_per_step_are_refused(tmp_path):
    model = create_model("resnet20", num_classes=5, img_size=8, in_chans=1, widths=(4, 4, 4))
    qcfs = insert_qcfs(model.eval(), levels=4)
    images = torch.rand(4, 1, 8, 8)
    masked = convert_model(qcfs, neuron="if", mask=0.5)
    error = refusal(masked, images, tmp_path)
    assert len(error.offences) == len(masked.masks) and "--mask 0" in str(error)
    biased = convert_model(
        qcfs, neuron="if", mask=0, calibration=[images], calibrate="bias", calibration_steps=4
    )
    assert "--calibrate thresholds" in str(refusal(biased, images, tmp_path))


def test_layers_have_names_that_every_reader_takes(small):
    snn, images = small.converted(small.Block())
    layers = lower(snn, images)
    assert all(name.isidentifier() for name in layers.layers)
    assert {layer.site for layer in layers.neurons} == {*snn.sites}
    assert all(
        isinstance(layers.layers[n], (Weighted, Neurons)) for n in layers.layers["output"].inputs
    )
