"""Thresholds and levels by the logits of the user's own network, and what is said of them."""

import pytest
import torch
from torch import nn

from spikeswap.calibrate import activation_thresholds
from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.convert.own_network import LEVELS
from spikeswap.support.choices import METHODS


class Net(nn.Module):
    def __init__(self, outlier=1.0):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.head, self.outlier = nn.Linear(8, 5), outlier

    def forward(self, x):
        return self.head(self.b(self.a(x).relu()).relu().mean((2, 3)))


@pytest.fixture
def model():
    return Net().eval()


@pytest.fixture
def batches():
    return list(torch.randn(40, 3, 10, 10).split(20))


def test_the_choice_is_the_best_of_what_was_tried(model, batches):
    info = convert_model(model, neuron="multi", calibration=batches).info
    found = info.fidelity
    assert found.held_back and found.compared == 10 and found.images == 30
    assert len(found.tried) == len(METHODS) * len(LEVELS) and info.levels == found.levels
    least = min(row["logit_error"] for row in found.tried)
    good = [r for r in found.tried if r["logit_error"] <= max(0.05, 1.1 * least)]
    assert found.levels == min(row["levels"] for row in good)
    rivals = [r["logit_error"] for r in found.tried if r["levels"] == found.levels]
    assert found.logit_error == min(rivals)
    assert "held-back" in info.fidelity_text and "mse" in info.fidelity_text


def test_its_error_is_that_of_the_quantised_network_on_the_held_back_images(model, batches):
    found = convert_model(model, neuron="multi", calibration=batches).info.fidelity
    held, rest = batches[0][:10], [batches[0][10:], batches[1]]
    thresholds = activation_thresholds(
        model, rest, method=found.method, levels=found.levels, sites="all"
    )
    quantised = insert_qcfs(model, found.levels, thresholds=thresholds, sites="all").eval()
    with torch.no_grad():
        mine, own = quantised(held), model(held)
    apart, alone = (x - x.mean(1, keepdim=True) for x in (mine - own, own))
    assert found.logit_error == pytest.approx(float(apart.norm() / alone.norm()), rel=1e-4)
    assert found.agreement == 100 * float((mine.argmax(1) == own.argmax(1)).double().mean())
    rows = {row["name"]: row["error"] for row in found.site_errors}
    with torch.no_grad():
        first = model.a(held).relu()
        level = quantised.get_submodule("relu")(model.a(held))
    assert rows["relu"] == pytest.approx(float((level - first).norm() / first.norm()), rel=1e-3)


def test_few_levels_want_lower_thresholds(model):
    """With one outlier the largest activation wastes the levels."""
    images = torch.randn(64, 3, 10, 10)
    images[40, :, 4:7, 4:7] = 8.0
    found = convert_model(model, neuron="multi", calibration=[images], levels=4).info.fidelity
    errors = {row["method"]: row["logit_error"] for row in found.tried}
    assert found.method == "mse" and errors["mse"] < 0.7 * errors["max"]


@pytest.mark.parametrize("levels", [2, 4, 16])
def test_least_error_is_found_by_trying_all(levels):
    """Against a fine search over the values themselves."""
    torch.manual_seed(3)
    values = torch.randn(4000, 3).abs() ** 1.5
    images = values.view(-1, 3, 1, 1)
    model = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(3, 2))
    model[0].weight.data = torch.eye(3).view(3, 3, 1, 1)
    found = activation_thresholds(model.eval(), [images], method="mse", levels=levels)["1"]
    for channel in range(3):
        x = values[:, channel]

        def error(s, x=x):
            return (
                ((x / s).clamp(0, 1).mul(levels).add(0.5).floor() * s / levels - x).square().sum()
            )

        best = min(float(error(s)) for s in torch.linspace(0.02, 1, 400) * x.max())
        assert float(error(found[channel])) <= 1.02 * best


def test_channels_that_never_fire_are_said(model):
    with torch.no_grad():
        model.a.bias[:3] = -100.0
    image = torch.randn(1, 3, 10, 10)
    info = convert_model(model, neuron="multi", calibration=[image], method="max").info
    assert info.fidelity.silent >= 3 and not info.fidelity.held_back
    assert f"{info.fidelity.silent} of {info.fidelity.channels} channels never fired" in (
        info.fidelity_text
    )
    assert "on 1 image, and are silent now: give more" in info.fidelity_text
    info = convert_model(model, neuron="multi", calibration=[image], method="headroom").info
    assert "on 1 image: give more" in info.fidelity_text


def test_headroom_lets_a_channel_of_few_images_grow(model):
    """A channel that hardly fires in the calibration reaches half the largest of its site."""
    with torch.no_grad():
        model.a.weight[0] *= 0.01
        model.a.bias[0] = 0.01
    images = torch.randn(8, 3, 10, 10)
    largest = activation_thresholds(model, [images], sites="all")
    found = activation_thresholds(model, [images], method="headroom", sites="all")
    for name, value in found.items():
        assert torch.equal(value, largest[name].clamp(min=largest[name].max() / 2))
    assert found["relu"][0] > 10 * largest["relu"][0]


def test_the_report_says_what_is_exact_and_what_is_not(model, batches):
    snn = convert_model(model, neuron="multi", calibration=batches)
    text = str(snn.report)
    assert "its quantised (QCFS) network exactly" in text and "your own network's" in text


@pytest.mark.parametrize("method", ["median", None, 3])
def test_unknown_methods_are_refused(model, batches, method):
    with pytest.raises(ValueError, match="method .* unknown; known: .*mse"):
        convert_model(model, neuron="multi", calibration=batches, method=method)


def test_a_quantised_network_is_its_own_measure(model, batches):
    network = insert_qcfs(model)
    assert convert_model(network, neuron="multi").info.fidelity is None
