"""The step-wise bias: a charge per step and channel that takes out the drift which images share.

In a deep network of IF neurons most of the error at step t is an offset of channel means that all
images have in common, made where a norm reads the sum of spike streams. With x_c the mean that a
channel reads in the clipped network, the charge

    b[t, c] = x_c - mean over images and places of the current x[t, c]

keeps the channel mean of the charge so far at t x_c in every step, on the images that it was fitted
to. It replaces the norm's constant bias by one per step.
"""

import contextlib

import torch
from torch import Tensor

from ..support.structure import inputs_of
from .channels import per_channel


class _Fit:
    """Stands in a neuron while the bias is fitted: the current of a step -> the bias of that step."""

    def __init__(self, mean: Tensor, axes: tuple[int, ...]):
        self.mean, self.axes = mean, axes
        self.rows: list[Tensor] = []

    def __call__(self, current: Tensor) -> Tensor:
        row = self.mean - per_channel(current, self.axes, torch.mean)
        self.rows.append(row)
        return row


def step_bias(network, images, steps: int, sites: list[str], statistics) -> dict[str, Tensor]:
    """Fit the bias of these sites in one simulation of `images`, in the order of the data flow.

    Args:
        network: a spiking network of IF neurons, called as `network(images, timesteps=steps)`.
        images: [B, C, H, W] (or a tuple of inputs), all in one batch; image i has the masks of
            image number i.
        sites: names of sites of `network.sites`.
        statistics: {site: mean (what it reads in the clipped network) and axes (its channels)} of
            the same images, from `clipped_statistics`.

    Returns:
        {site: table [steps, ...]}; a row broadcasts to what the site reads of one image.
    """
    fits = {name: _Fit(statistics[name].mean, statistics[name].axes) for name in sites}
    with _fitting(network, fits):
        network(*inputs_of(images), timesteps=steps)
    return {name: torch.stack(fit.rows) for name, fit in fits.items()}


@contextlib.contextmanager
def _fitting(network, fits: dict[str, _Fit]):
    for name, fit in fits.items():
        network.sites[name].neuron.calibrator = fit
    try:
        yield
    finally:
        for name in fits:
            network.sites[name].neuron.calibrator = None
