"""Calibration images in whatever form users hold them: taken rightly, or refused in one sentence."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from spikeswap.calibrate import Batches, activation_thresholds, swap_norm
from spikeswap.convert import convert_model

X, Y = torch.randn(7, 1, 8, 8), torch.arange(7)
DATA = TensorDataset(X, Y)
FORMS = {
    "a tensor": lambda: X,
    "a pair": lambda: (X, Y),
    "a list of tensors": lambda: [X[:4], X[4:]],
    "two batches": lambda: [X[:4], X[4:]],
    "pairs": lambda: [(X[:4], Y[:4]), (X[4:], Y[4:])],
    "a data set": lambda: DATA,
    "a loader": lambda: DataLoader(DATA, batch_size=3),
    "a generator": lambda: (x for x in X.split(2)),
    "an iterator with a length": lambda: iter(DataLoader(DATA, batch_size=3)),
    "dictionaries": lambda: [{"pixel_values": X[:4], "labels": Y[:4]}, {"pixel_values": X[4:]}],
    "an empty batch among others": lambda: [X[:0], X],
}


@pytest.mark.parametrize("form", FORMS)
def test_all_images_are_seen_as_often_as_they_are_read(form):
    batches = Batches(FORMS[form]())
    for _ in range(2):
        torch.testing.assert_close(torch.cat(list(batches)), X)


REFUSED = {
    "nothing": ([], "no images"),
    "empty batches": ([X[:0]], "no images"),
    "a number": (3, "int"),
    "a path": (["digits/"], "str"),
    "labels only": ([Y], "no batch of images"),
    "bytes": ([(X * 255).to(torch.uint8)], "uint8"),
    "unknown names": ([{"x_train": X}], "x_train"),
    "NaN": ([X, X * torch.nan], "image 0 of batch 1"),
    "arrays": ([X.numpy()], "ndarray"),
}
MODEL = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
NORMED = nn.Sequential(nn.Flatten(1, 2), nn.LayerNorm(8))
CALLS = {
    "thresholds": lambda loader: activation_thresholds(MODEL, loader),
    "convert": lambda loader: convert_model(MODEL, neuron="multi", calibration=loader),
    "bias": lambda loader: convert_model(
        MODEL, calibration=loader, calibrate="bias", calibration_steps=4
    ),
    "swap_norm": lambda loader: swap_norm(NORMED, loader),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("what", REFUSED)
def test_what_gives_no_images_is_refused_alike_everywhere(what, call):
    loader, words = REFUSED[what]
    with pytest.raises(ValueError, match=words) as caught:
        CALLS[call](loader)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_converts(form):
    snn = convert_model(MODEL, neuron="multi", calibration=FORMS[form]())
    assert snn(X, timesteps=2).shape == (2, 7, 3)


def test_known_calibrations_do_what_they_say_on_a_plain_network_and_unknown_ones_are_refused():
    torch.manual_seed(3)
    images = torch.randn(64, 1, 8, 8)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)]
    model = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    plain, fitted = (
        convert_model(
            model, calibration=images, calibrate=name, calibration_steps=steps, method="max"
        )
        for name, steps in (("thresholds", None), ("bias", 4))
    )
    expected = model(images).mean(0)  # what it takes out is the drift that images share
    drift = [
        float((snn(images, timesteps=4)[-1].mean(0) - expected).norm()) for snn in (plain, fitted)
    ]
    assert drift[1] < 0.8 * drift[0]
    assert fitted.info.calibration.method == "bias"
    with pytest.raises(ValueError, match="nonsense"):
        convert_model(MODEL, calibration=images, calibrate="nonsense")
    with pytest.raises(ValueError, match="calibrate='bias' is for neuron 'if'"):
        convert_model(
            MODEL, neuron="multi", calibration=images, calibrate="bias", calibration_steps=4
        )
