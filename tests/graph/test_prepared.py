"""A model is looked at once; whatever starts from that leaves it as it was, and is equally strict."""

import logging

import pytest
import torch
from torch import nn

from spikeswap.calibrate import activation_thresholds
from spikeswap.convert import (
    UnconvertibleError,
    convert_model,
    insert_qcfs,
    layer_errors,
    logit_errors,
    reference_network,
)
from spikeswap.graph import prepare


def plain(last=None):
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()]
    return nn.Sequential(*layers, last or nn.Flatten(), nn.Linear(64, 3)).eval()


@pytest.fixture
def images():
    return torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def state(prepared):
    return prepared.graph.code, {k: v.clone() for k, v in prepared.graph.state_dict().items()}


def test_a_network_is_traced_once_for_everything(images, caplog):
    caplog.set_level(logging.INFO, "spikeswap")
    prepared = prepare(plain(), example_inputs=images)
    code, before = state(prepared)
    thresholds = activation_thresholds(prepared, images)
    insert_qcfs(prepared, thresholds=thresholds, mask=0.5)
    convert_model(prepared, neuron="multi", calibration=images)
    assert caplog.text.count("traced ") == 1
    assert prepared.graph.code == code
    assert all(torch.equal(v, before[k]) for k, v in prepared.graph.state_dict().items())


def test_comparisons_take_what_the_conversion_started_from(images, caplog):
    quantised = insert_qcfs(plain(), levels=8, threshold=1.0)
    caplog.set_level(logging.INFO, "spikeswap")
    prepared = prepare(quantised)
    snn = convert_model(prepared)
    rows = layer_errors(snn, prepared, images, 8)
    errors = logit_errors(snn, prepared, images, 8)
    assert caplog.text.count("traced ") == 1
    assert rows == layer_errors(snn, quantised, images, 8)
    assert errors == logit_errors(snn, quantised, images, 8)
    assert torch.equal(
        reference_network(snn, prepared)(images), reference_network(snn, quantised)(images)
    )


CALLS = {
    "thresholds": lambda net, images: activation_thresholds(net, images),
    "insert": lambda net, images: insert_qcfs(net),
    "convert": lambda net, images: convert_model(net, calibration=images),
    "prepare": lambda net, images: prepare(net),
}


class Mixes(nn.Module):
    def forward(self, x):
        return (x - x.mean(0)).flatten(1)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("last, words", [(nn.GELU(), "GELU"), (Mixes(), "mixes the images")])
def test_every_entry_point_is_equally_strict(call, last, words, images):
    with pytest.raises(UnconvertibleError, match=words):
        CALLS[call](plain(last), images)
