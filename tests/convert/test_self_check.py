"""Every conversion proves itself: the faults of a conversion that it finds, and what it leaves alone."""

import logging

import pytest
import torch
from torch import nn

from spikeswap.convert import UnconvertibleError, convert_model, insert_qcfs, pipeline
from spikeswap.convert.passes import domains, norms
from spikeswap.neurons import NEURONS, Accumulate, Offset, Present
from spikeswap.ops import Kind


class Net(nn.Module):
    """Biases, a max-pool, a product of streams, an offset by the image, a softmax; then `last`."""

    def __init__(self, last):
        super().__init__()
        self.conv1, self.act1 = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
        self.conv2, self.act2 = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        self.norm, self.pool = nn.BatchNorm2d(4), nn.MaxPool2d(3, 1, 1)
        self.last, self.head = last, nn.Linear(4, 5)
        self.norm.running_mean.uniform_(-0.5, 0.5)

    def forward(self, x):
        y = self.act1(self.norm(self.conv1(x)))
        z = self.act2(self.conv2(y) + x.mean((1, 2, 3))[:, None, None, None])
        return self.head(self.last(z * self.pool(y) + z.softmax(1)).mean((2, 3)))


class Cast(nn.Module):
    """Rounds its input to another number type."""

    def __init__(self, precision):
        super().__init__()
        self.precision = precision

    def forward(self, x):
        return x.to(self.precision).to(x.dtype)


class MixesImages(nn.Module):
    def forward(self, x):
        return x * x.mean(0, keepdim=True).sigmoid()


@pytest.fixture
def model():
    return make()


def make(last=None, **arguments):
    torch.manual_seed(0)
    return insert_qcfs(Net(last or nn.Identity()).eval(), threshold=0.7, **arguments)


def always(module, x, c):
    shape = [1] * x.dim()
    shape[module.axis or 0] = -1
    return x + (c if module.axis is None else c.view(shape))


def other_steps(module, x):
    return Present(not module.once).forward(x)


def on_stream(assignment, node, row, domains):
    return row.kind is Kind.NONLINEAR or right_on_stream(assignment, node, row, domains)


right_on_stream = domains._Assignment.on_stream


def without_mean(norm):
    scale, offset = right_scale_and_offset(norm)
    return scale, offset * 0


right_scale_and_offset = norms.scale_and_offset

FAULTS = {  # owner, attribute, what stands there instead, {neuron: what is named}
    "offset in every step": (Offset, "forward", always, "conv2"),
    "non-linear on single steps": (domains._Assignment, "on_stream", on_stream, "pool"),
    "no running value": (Accumulate, "forward", lambda module, x: x, "pool"),
    "norm folded wrongly": (norms, "scale_and_offset", without_mean, "norm"),
}


@pytest.mark.parametrize("neuron", ["if", "multi"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused_and_its_first_operation_named(fault, neuron, model, monkeypatch):
    owner, attribute, wrong, place = FAULTS[fault]
    convert_model(model, neuron=neuron)
    monkeypatch.setattr(owner, attribute, wrong)
    if neuron == "if" and owner is Offset:
        convert_model(model, neuron=neuron)  # has none
        return
    with pytest.raises(UnconvertibleError, match="tends to something else") as caught:
        convert_model(model, neuron=neuron)
    (offence,) = caught.value.offences
    assert offence.module_path == place
    convert_model(model, neuron=neuron, check=False)


@pytest.mark.parametrize("neuron", NEURONS)
def test_constants_of_the_image_in_wrong_steps_are_refused(neuron, model, monkeypatch):
    def wrong(module, x):
        other = Present(not module.once)
        other.clock = module.clock
        return right(other, x)

    right = Present.forward
    monkeypatch.setattr(Present, "forward", wrong)
    with pytest.raises(UnconvertibleError, match="tends to something else"):
        convert_model(model, neuron=neuron)


def test_masks_that_change_in_cumulative_coding_are_refused(monkeypatch):
    model = make(mask=0.4)
    convert_model(model, neuron="multi")
    right = pipeline.masks_to_seeded
    monkeypatch.setattr(
        pipeline,
        "masks_to_seeded",
        lambda gm, seed, scaling, frozen: right(gm, seed, scaling, False),
    )
    with pytest.raises(UnconvertibleError, match="act2_mask"):
        convert_model(model, neuron="multi")


@pytest.mark.parametrize("neuron", NEURONS)
def test_a_leaf_that_mixes_images_is_refused(neuron):
    images = torch.randn(4, 3, 6, 6)
    model = make(MixesImages(), leaf_modules=["last"], example_inputs=images)
    with pytest.raises(UnconvertibleError, match="steps that run side by side"):
        convert_model(model, neuron=neuron, leaf_modules=["last"], example_inputs=images)


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("mask", [0.0, 0.4])
def test_a_right_conversion_passes_and_nothing_is_touched(neuron, precision, mask, caplog):
    caplog.set_level(logging.INFO)
    model = make(mask=mask).to(precision)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    snn = convert_model(model, neuron=neuron, example_inputs=torch.zeros(1, 3, 6, 6))
    assert "conversion checked" in caplog.text
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    images = torch.randn(3, 3, 6, 6, dtype=precision)
    plain = convert_model(model, neuron=neuron, check=False)
    assert torch.equal(snn(images, timesteps=5), plain(images, timesteps=5))


@pytest.mark.parametrize("inside", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("neuron", ["if", "multi"])
def test_a_network_that_computes_coarsely_inside_is_held_to_that(neuron, inside, monkeypatch):
    """What is rounded on its way is no fault of the conversion; a real fault still is one."""
    torch.manual_seed(0)
    conv, norm, head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)
    norm.running_mean.uniform_(-0.5, 0.5)
    pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    layers = conv, norm, nn.ReLU(), nn.Conv2d(4, 4, 1), Cast(inside), nn.ReLU(), *pooled, head
    model = insert_qcfs(nn.Sequential(*layers).double().eval(), threshold=0.7)
    images = torch.randn(2, 3, 6, 6)
    convert_model(model, neuron=neuron, example_inputs=images)
    monkeypatch.setattr(norms, "scale_and_offset", without_mean)
    with pytest.raises(UnconvertibleError, match="tends to something else"):
        convert_model(model, neuron=neuron, example_inputs=images)


def test_calibrated_thresholds_are_those_of_the_reference(model, caplog):
    caplog.set_level(logging.INFO)
    images = [torch.randn(8, 3, 6, 6)]
    convert_model(model, calibration=images, calibrate="bias-everywhere", calibration_steps=2)
    assert "conversion checked" in caplog.text


@pytest.mark.parametrize(
    "last, arguments, words",
    [
        (nn.Identity(), {"attention": "per-step"}, "tends to no other network"),
    ],
)
def test_what_cannot_be_checked_is_said(last, arguments, words, caplog):
    caplog.set_level(logging.INFO)
    convert_model(make(last), **arguments)
    assert f"conversion not checked: {words}" in caplog.text.replace("attention 'per-step' ", "")
