"""`observe` keeps what `record` and hooks show, and changes nothing."""

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.evaluate import observe
from spikeswap.models import create_model


def network(name="swin_nano_bn", levels=4, **more):
    swin = {
        "embed_dim": 12,
        "depths": (1, 1),
        "num_heads": (2, 2),
        "window_size": 4,
        "patch_size": 2,
    }
    torch.manual_seed(0)
    model = create_model(
        name,
        num_classes=4,
        img_size=16,
        in_chans=1,
        **({**swin, **more} if "swin" in name else more),
    )
    model.train()
    model(torch.rand(8, 1, 16, 16))
    return insert_qcfs(model, levels=levels, threshold=1.0, mask=0.5).eval()


@pytest.mark.parametrize("kind", ["if", "stbif", "multi"])
def test_layers_are_what_record_shows(kind):
    ann, images = network(), torch.rand(3, 1, 16, 16)
    snn = convert_model(ann, neuron=kind)
    seen = observe(snn, images, 6, ann, first_index=5)
    with snn.record() as spikes:
        snn(images, timesteps=6, first_index=5)
    assert [layer.name for layer in seen.layers] == list(snn.sites)
    assert (seen.kind, seen.timesteps, seen.images, seen.mask) == ("converted", 6, 3, 0.5)
    assert seen.norm == "BN"
    for layer in seen.layers:
        sent = spikes[layer.name]
        fired = sent.ne(0).sum(0)
        assert layer.rate == pytest.approx(float(sent.ne(0).double().mean()), abs=1e-6)
        assert layer.fired == pytest.approx(float((fired > 0).double().mean()), abs=1e-6)
        assert layer.neurons == sent[0].numel() // 3  # also where windows lie beside images
        first = sent.reshape(6, 3, -1)[
            :, 0
        ]  # each row of the raster is a neuron of the first image
        rows = {tuple(row.tolist()) for row in first.T}
        assert all(tuple(row.tolist()) in rows for row in layer.raster.T)
        for shares in (layer.rates, layer.sent_snn, layer.sent_ann, layer.read_ann):
            assert float(shares.sum()) == pytest.approx(1, abs=1e-5)
        assert len(layer.membranes) == 6


def test_values_are_the_mean_of_the_readout_and_the_sum_of_cumulative_coding():
    ann, images = network(), torch.rand(2, 1, 16, 16)
    late = observe(convert_model(ann, readout="second-half"), images, 8, ann)
    assert late.window == (5, 8)
    exact = observe(convert_model(ann, neuron="multi"), images, 40, ann)
    assert exact.window is None
    assert max(layer.error or 0 for layer in exact.layers) < 1e-4  # QCFS with the same masks
    assert observe(convert_model(ann), images, 8, ann).window == (1, 8)


def test_values_approach_those_of_a_finely_quantised_ann():
    ann, images = network("resnet20", levels=256), torch.rand(2, 1, 16, 16)
    snn = convert_model(ann, mask=0.0)
    short, long = (observe(snn, images, steps, ann).layers[2].error for steps in (4, 64))
    assert long < short


def test_membranes_are_over_the_threshold():
    ann, images = network("resnet20"), torch.rand(1, 1, 16, 16)
    snn = convert_model(ann)
    name = next(iter(snn.sites))
    layer = observe(snn, images, 5, ann).layers[0]
    with snn.record(name, membrane=True) as spikes:
        snn(images, timesteps=5)
    potentials = (spikes.membrane[name] / snn.sites[name].threshold).flatten(1).T
    for trace in layer.membranes.T:
        assert float((potentials - trace).abs().amax(1).min()) < 1e-5


def test_the_model_is_left_as_it_was():
    ann, images = network(), torch.rand(2, 1, 16, 16)
    snn = convert_model(ann)
    snn.train()
    before = snn(images, timesteps=4)
    observe(snn, images, 4, ann)
    assert snn.training
    assert torch.equal(snn(images, timesteps=4), before)
    assert not any(m._forward_hooks for m in (*snn.modules(), *ann.modules()))  # noqa: SLF001


def test_networks_with_spikingjelly_neurons(direct, images):
    direct.fire.v_threshold = 0.1
    seen = observe(direct, images[:3], 4)
    (layer,) = seen.layers
    assert (seen.kind, seen.timesteps, seen.window) == ("direct", 4, None)
    assert layer.raster.shape == (4, layer.raster.shape[1])
    assert layer.membranes is not None
    assert layer.ann is None
    assert layer.rate > 0
    assert direct.fire.store_v_seq is False
    assert seen.maps.score_cam is None
    assert direct.resets == 0


def test_a_layer_that_cannot_be_read_is_named(leaking, images):
    with pytest.raises(ValueError, match=r"no neuron layer sends \[T, B"):
        observe(leaking, images[:3], 4)


def test_one_call_a_step(images):
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.fire = nn.Linear(16, 3), neuron.IFNode(v_threshold=0.5)

        def forward(self, x, timesteps=3):
            return torch.stack([self.head(self.fire(x.flatten(1))) for _ in range(timesteps)])

    (layer,) = observe(Steps(), images, 5).layers
    assert layer.membranes is None
    assert len(layer.raster) == 5


def test_impossible_arguments(direct, ann, images):
    snn = convert_model(network("resnet20"))
    with pytest.raises(ValueError, match="at least one image"):
        observe(snn, torch.zeros(0, 1, 16, 16), 4)
    with pytest.raises(ValueError, match="no layer is called 'nothing'"):
        observe(snn, torch.rand(1, 1, 16, 16), 4, map_site="nothing")
    with pytest.raises(ValueError, match="no neurons that are known"):
        observe(ann, images, 4)
    with pytest.raises(ValueError, match="timesteps is missing"):
        observe(snn, torch.rand(1, 1, 16, 16))
