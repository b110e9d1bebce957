"""Masked conversions: exact with frozen masks, unbiased with fresh ones."""

import pytest
import torch
from torch import nn

from spikeswap.convert import clipped, convert_model, insert_qcfs, reference_network
from spikeswap.models import create_model
from spikeswap.neurons import SeededMask, SpikeMask


def resnet():
    return create_model("resnet20", num_classes=5, in_chans=1, widths=(4, 6), depths=(1, 1))


def swin():
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


MODELS = {"resnet": resnet, "swin": swin}


@pytest.fixture(params=list(MODELS))
def model_and_images(request, quantised):
    images = torch.randn(3, 1, 16, 16, dtype=torch.double)
    return quantised(MODELS[request.param](), images, levels=8, mask=0.5), images


class Fixed(nn.Module):
    """The mask that a spiking network used, on the values of the QCFS network."""

    def __init__(self, mask, images, first_index=0):
        super().__init__()
        self.mask, self.images, self.first_index = mask, images, first_index

    def forward(self, x):
        count = x.numel() // self.images
        images = range(self.first_index, self.first_index + self.images)
        keep = self.mask.keep(range(1), images, count)[0]
        out = (x.reshape(self.images, count) * keep).view(x.shape)
        return out if self.mask.scaling == "none" else out / (1 - self.mask.ratio)


def with_masks_of(model, snn, images, first_index=0):
    """The QCFS network with the frozen masks of a spiking one."""
    for name, module in list(model.named_modules()):
        if isinstance(module, SpikeMask):
            parent, _, last = name.rpartition(".")
            setattr(
                model.get_submodule(parent),
                last,
                Fixed(snn.masks[name.removesuffix("_mask")], images, first_index),
            )
    return model


@pytest.mark.parametrize("scaling", ["none", "inverse"])
@pytest.mark.parametrize("neuron", ["stbif", "multi"])
def test_frozen_masks_are_exact(model_and_images, neuron, scaling, relative_error):
    model, images = model_and_images
    snn = convert_model(model, neuron=neuron, mask_scaling=scaling, seed=5)
    assert snn.info["mask"] == 0.5 and snn.info["mask_scaling"] == scaling
    readout = snn(images, timesteps=60, first_index=7)
    with torch.no_grad():
        plain = model(images)
        expected = with_masks_of(model, snn, 3, 7)(images)
    assert relative_error(readout[-1], expected) < 1e-9
    assert relative_error(expected, plain) > 1e-2, "the masks matter"


def test_fresh_masks_tend_to_their_expectation(model_and_images, relative_error):
    """`none`: masked sites times 1 - p; `inverse`: times 1."""
    model, images = model_and_images
    with torch.no_grad():
        scaled = clipped(model)(images)
        whole = clipped(model.train())
        for module in whole.modules():
            if isinstance(module, SpikeMask):
                module.ratio = 0.0
        whole = whole.eval()(images)
    assert relative_error(whole, scaled) > 0.02
    for scaling, right, wrong in (("none", scaled, whole), ("inverse", whole, scaled)):
        readout = convert_model(model.eval(), mask_scaling=scaling)(images, timesteps=1024)
        errors = [relative_error(readout[t - 1], right) for t in (16, 1024)]
        assert errors[1] < 0.25 * errors[0]
        assert errors[1] < 0.5 * relative_error(readout[-1], wrong)


@pytest.mark.parametrize("neuron", ["if", "stbif", "multi"])
def test_seed_batch_split_chunk_and_order(model_and_images, neuron):
    model, images = model_and_images
    snn = convert_model(model, neuron=neuron, seed=1)
    whole = snn(images, timesteps=10, first_index=100)
    same = {"rtol": 0, "atol": 1e-8}
    torch.testing.assert_close(
        convert_model(model, neuron=neuron, seed=1)(images, timesteps=10, first_index=100, chunk=3),
        whole,
        **same,
    )
    parts = [snn(images[i : i + 1], timesteps=10, first_index=100 + i) for i in (2, 0, 1)]
    torch.testing.assert_close(torch.cat([parts[1], parts[2], parts[0]], 1), whole, **same)
    reseeded = convert_model(model, neuron=neuron, seed=2)
    for other in (snn(images, timesteps=10), reseeded(images, timesteps=10, first_index=100)):
        assert (other - whole).abs().max() > 1e-3
    assert torch.equal(
        snn(images, timesteps=4, first_index=100, chunk=1),
        snn(images, timesteps=10, first_index=100, chunk=1)[:4],
    )


@pytest.mark.parametrize("neuron", ["if", "stbif", "multi"])
def test_masks_in_the_network_drop_the_ratio(model_and_images, neuron):
    """Seen at the mask itself while the network runs, at every site."""
    model, images = model_and_images
    snn = convert_model(model, neuron=neuron, mask=0.25)
    nonzero, kept = {}, {}

    def count(node, module, args, kwargs, output, clock):
        if isinstance(module, SeededMask):
            nonzero[module.site] = nonzero.get(module.site, 0) + int((args[0] != 0).sum())
            kept[module.site] = kept.get(module.site, 0) + int((output != 0).sum())

    with snn.observe(count):
        snn(images, timesteps=40)
    assert len(nonzero) == len(snn.masks) == len(snn.info["mask_sites"]) > 0
    for site, n in nonzero.items():
        assert abs(kept[site] / n - 0.75) < 4.5 * (0.75 * 0.25 / n) ** 0.5, site


def test_ratio_zero_inserts_nothing_and_is_reproducible(quantised):
    images = torch.randn(3, 1, 16, 16, dtype=torch.double)
    model = quantised(swin(), images, levels=8)
    snn = convert_model(model)
    assert not snn.masks and snn.info["mask"] == 0 and snn.info["mask_sites"] == []
    assert torch.equal(
        snn(images, timesteps=8, chunk=4),
        convert_model(model, seed=9)(images, timesteps=8, chunk=4),
    )


def test_default_ratio_and_sites_are_the_trained_ones():
    model = insert_qcfs(resnet(), mask=0.5, mask_sites=["conv1.2"])
    snn = convert_model(model)
    assert snn.info["mask"] == snn.info["trained_mask"] == 0.5
    assert snn.info["mask_sites"] == list(snn.masks) == ["conv1.2"]
    other = convert_model(model, mask=0.25)
    assert other.info["mask"] == 0.25 and other.info["trained_mask"] == 0.5
    assert not convert_model(model, mask=0).masks


def test_mask_sites_by_name():
    model = insert_qcfs(resnet())
    names = ["conv2_x.0.residual_function.2", "conv3_x.0.act"]
    snn = convert_model(model, mask=0.5, mask_sites=names)
    assert list(snn.masks) == snn.info["mask_sites"] == names
    with pytest.raises(ValueError, match="conv3_x.0.act"):
        convert_model(model, mask=0.5, mask_sites=["conv3_x.0.acts"])
    with pytest.raises(ValueError, match="conv3_x.0.act"):
        insert_qcfs(resnet(), mask=0.5, mask_sites=["conv3_x.0.acts"])


def test_training_masks_are_random_and_evaluation_masks_are_not():
    model = insert_qcfs(resnet().train(), mask=0.75)
    x = torch.randn(2, 1, 16, 16)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


class LearnedToken(nn.Module):
    """One activation sees a parameter alone: it sends no spikes."""

    def __init__(self):
        super().__init__()
        self.conv, self.token = nn.Conv2d(1, 4, 3), nn.Parameter(torch.rand(1, 4, 1, 1))
        self.first, self.second, self.third = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.mix, self.head = nn.Conv2d(4, 4, 1), nn.Linear(4, 5)

    def forward(self, x):
        x = self.first(self.conv(x)) + self.second(self.token)
        return self.head(self.third(self.mix(x)).mean((2, 3)))


@pytest.mark.parametrize("mask", [0.0, 0.5])
@pytest.mark.parametrize("neuron", ["if", "multi"])
def test_sites_of_parameters_alone_are_neither_masked_nor_rounded(
    neuron, mask, quantised, relative_error
):
    images = torch.randn(3, 1, 6, 6, dtype=torch.double)
    qcfs = quantised(LearnedToken(), images, levels=4, mask=mask)
    snn = convert_model(qcfs, neuron=neuron)
    assert list(snn.sites) == ["first", "third"]
    assert list(snn.masks) == (["first", "third"] if mask else [])
    expected = reference_network(snn, qcfs)(images)
    readout = snn(images, timesteps=2000 if neuron == "if" else 30)
    assert relative_error(readout[-1], expected) < (2e-2 if neuron == "if" else 1e-9)
