"""What cannot be evaluated is refused, or is null with its reason; never a silent number."""

import pytest
import torch
from torch import nn

from spikeswap.evaluate import EnergyModel, evaluate


class Constant(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x, timesteps=2):
        return self.output(x, timesteps)


def test_nan_logits_name_image_and_step(images, labels):
    def output(x, t):
        out = torch.zeros(t, len(x), 3)
        out[1, -1, 2] = float("nan")
        return out

    with pytest.raises(ValueError, match=r"nan for image 9, step 2, class 2"):
        evaluate(Constant(output), [(images, labels)], check_independence=False)


@pytest.mark.parametrize("loader", [[], [(torch.zeros(0, 1, 4, 4), torch.zeros(0).long())]])
def test_an_empty_loader(ann, loader):
    with pytest.raises(ValueError, match="no images"):
        evaluate(ann, loader)


@pytest.mark.parametrize("label", [3, -1])
def test_labels_outside_the_classes(ann, images, labels, label):
    labels = labels.clone()
    labels[6] = label
    with pytest.raises(ValueError, match=f"label {label} of image 6 is outside"):
        evaluate(ann, [(images[:4], labels[:4]), (images[4:], labels[4:])])


def test_labels_that_are_no_class_numbers(ann, images):
    with pytest.raises(ValueError, match="whole class number"):
        evaluate(ann, [(images, torch.rand(10))])
    with pytest.raises(ValueError, match="batches"):
        evaluate(ann, [images])


def test_one_class_only(images, labels):
    with pytest.raises(ValueError, match="1 class"):
        evaluate(nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), [(images, labels)])


def test_images_of_one_class_are_remarked(ann, images):
    record = evaluate(ann, [(images, torch.ones(10).long())])
    assert any("one label" in note for note in record["notes"])


@pytest.mark.parametrize(
    "shape, message",
    [
        (lambda x, t: torch.zeros(len(x), 3), r"must be \[T, B, classes\]"),
        (lambda x, t: torch.zeros(t + 1, len(x), 3), "3 time steps for timesteps=2"),
        (lambda x, t: torch.zeros(len(x), t, 3), r"must be \[T, B, classes\]"),
        (lambda x, t: (torch.zeros(t, len(x), 3), 1), "returns tuple"),
    ],
)
def test_wrong_shapes(images, labels, shape, message):
    with pytest.raises(ValueError, match=message):
        evaluate(Constant(shape), [(images, labels)], timesteps=2)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"timesteps": 0}, "timesteps is 0"),
        ({"timesteps": 2.5}, "timesteps is 2.5"),
        ({"timesteps": []}, "timesteps is empty"),
        ({"limit": 0}, "limit is 0"),
        ({"chunk": -1}, "chunk is -1"),
        ({"early_exit": 0}, "early_exit 0"),
        ({"energy": "45nm-fp23"}, "did you mean 45nm-fp32"),
    ],
)
def test_impossible_arguments(direct, loader, arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate(direct, loader, **arguments)


@pytest.mark.parametrize("value", [-1, float("nan"), "much"])
def test_impossible_energies(value):
    with pytest.raises(ValueError, match="mac_picojoules"):
        EnergyModel("mine", value, 0.5, "none")


def test_a_silent_network_is_null_with_the_reason(direct, loader):
    direct.fire.v_threshold = 1e6
    record = evaluate(direct, loader)
    for key in ("acs", "energy_millijoules", "energy_to_quantised"):
        assert record[key] is None
        assert any(text.startswith(f"{key}: no spikes at all") for text in record["uncounted"])
    assert record["macs"] > 0


def test_unknown_neurons_without_spikes_are_null_with_the_reason(images, labels):
    class Smooth(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(16, 3)

        def forward(self, x, timesteps=2):
            return torch.stack([self.head(x.flatten(1).sigmoid())] * timesteps)

    record = evaluate(Smooth(), [(images, labels)])
    assert record["acs"] is None
    assert any("no spikes were recognised" in text for text in record["uncounted"])
    assert record["neuron"] is None


def test_operations_without_a_handle_are_listed(images, labels):
    class Exotic(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(16, 3)

        def forward(self, x):
            return self.head(torch.special.bessel_j0(x).flatten(1))

    record = evaluate(Exotic(), [(images, labels)])
    assert any("bessel" in text for text in record["uncounted"])
