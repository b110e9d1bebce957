"""The layer-error table: total error by site, and its parts, against closed forms."""

import pytest
import torch
from torch import nn

from spikeswap.calibrate import activation_thresholds
from spikeswap.convert import (
    convergence_sentence,
    convert_model,
    insert_qcfs,
    layer_errors,
    logit_errors,
)


def network():
    return (
        nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, 5),
        )
        .double()
        .eval()
    )


@pytest.fixture
def images():
    return torch.randn(4, 3, 8, 8, dtype=torch.double)


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def test_rows_are_the_sites_in_order(images):
    model = insert_qcfs(network(), levels=8, threshold=1.0)
    for neuron in ("if", "stbif", "multi"):
        rows = layer_errors(convert_model(model, neuron=neuron), model, images, 4)
        assert [row["name"] for row in rows] == ["1", "3"]
        assert all(
            row.keys() == {"name", "ann", "error", "clipping", "quantisation", "unevenness"}
            for row in rows
        )


def test_an_exact_conversion_has_no_error_and_no_unevenness(images):
    model = insert_qcfs(network(), levels=8, threshold=1.0)
    for row in layer_errors(convert_model(model, neuron="multi"), model, images, 30):
        assert row["error"] < 1e-9 and row["unevenness"] < 1e-9


def test_parts_of_the_first_site_are_the_closed_forms(images):
    """It reads the image's constant current: everything can be written down."""
    source = network()
    model = insert_qcfs(source, levels=8, threshold=0.5)
    x = source[0](images).detach()
    clip, relu = x.clamp(0, 0.5), x.clamp(min=0)
    level = torch.floor(clip / 0.5 * 8 + 0.5) * 0.5 / 8
    steps = 7
    v, sent = torch.full_like(x, 0.25), torch.zeros_like(x)
    for _ in range(steps):
        v = v + x
        spike = (v >= 0.5) * 0.5
        v, sent = v - spike, sent + spike / steps
    row = layer_errors(convert_model(model), model, images, steps)[0]
    assert row["ann"] == pytest.approx(clip.square().mean().sqrt().item())
    assert row["error"] == pytest.approx(relative(sent, clip))
    assert row["unevenness"] == pytest.approx(relative(sent, clip))
    assert row["clipping"] == pytest.approx(((clip - relu).norm() / clip.norm()).item())
    assert row["quantisation"] == pytest.approx(((level - clip).norm() / clip.norm()).item())


def test_thresholds_at_the_maximum_clip_nothing(images):
    source = network()
    model = insert_qcfs(source, 8, thresholds=activation_thresholds(source, [images]))
    row = layer_errors(convert_model(model, neuron="multi"), model, images, 20)[0]
    assert row["clipping"] < 1e-12 < row["quantisation"]


def test_errors_of_rate_coding_fall_with_time(images):
    model = insert_qcfs(network(), levels=8, threshold=1.0)
    snn = convert_model(model)
    short, long = (layer_errors(snn, model, images, t) for t in (16, 256))
    assert all(b["error"] < 0.5 * a["error"] for a, b in zip(short, long, strict=True))


def test_a_spoiled_layer_shows_where_the_error_begins(images):
    """Only the second site's threshold of the spiking network is wrong."""
    model = insert_qcfs(network(), levels=8, threshold=1.0)
    snn = convert_model(model)
    snn.sites["3"].neuron.threshold.mul_(0.2)
    first, second = layer_errors(snn, model, images, 256)
    assert first["error"] < 0.02 and second["error"] > 0.1


def test_masks_at_their_expectation_or_frozen(images):
    model = insert_qcfs(network(), levels=8, threshold=1.0, mask=0.5).eval()
    rows = layer_errors(convert_model(model, neuron="multi", seed=3), model, images, 30)
    assert all(row["error"] < 1e-9 for row in rows)
    errors = logit_errors(convert_model(model, seed=3), model, images, 512)
    assert errors[512] < 0.1


def test_neither_network_is_changed(images):
    model = insert_qcfs(network(), levels=8, threshold=1.0).train()
    snn = convert_model(model)
    before = snn(images, timesteps=5, chunk=1)
    layer_errors(snn, model, images, 5)
    logit_errors(snn, model, images, 5)
    assert model.training and not any(m._forward_hooks for m in model.modules())
    assert torch.equal(snn(images, timesteps=5, chunk=1), before)


def test_logit_errors_at_t_half_and_quarter(images):
    model = insert_qcfs(network(), levels=8, threshold=1.0)
    snn = convert_model(model, neuron="multi")
    found = logit_errors(snn, model, images, 16)
    readout, expected = snn(images, timesteps=16), model(images).detach()
    assert found == {
        t: pytest.approx(relative(readout[t - 1], expected), abs=1e-12) for t in (4, 8, 16)
    }
    assert set(logit_errors(snn, model, images, 1)) == {1}


@pytest.mark.parametrize(
    "errors, words",
    [
        ({32: 0.4, 64: 0.2, 128: 0.1}, "still falling"),
        ({32: 0.4, 64: 0.4, 128: 0.39}, "no longer"),
        ({4: 0.1, 8: 1e-3, 16: 1e-12}, "exact"),
    ],
)
def test_one_sentence_says_whether_it_falls(errors, words):
    text = convergence_sentence(errors, "clipped network")
    assert words in text and "clipped network" in text and text.count(".") >= 1
    assert all(f"T={t}" in text for t in errors)
