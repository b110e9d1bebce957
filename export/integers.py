"""Weights of 8 or 16 bits on one scale with the threshold, layer by layer.

A neuron fires where a sum reaches its threshold, so both may be multiplied by the same number: with
threshold K, a whole number, weights W become round(K W). A larger K rounds finer and cuts off the
largest weights; K is the one whose currents differ least on data. The bias takes over what the rounding
changes on average, in the layer and in those before it (M. Nagel et al., ICCV 2019).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .layers import Exportable, Image, Neurons, Readout, Weighted
from .simulation import simulate

# how far beyond the K that holds the largest weight
REACH = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
POSITIONS = 2048  # of images and pixels whose inputs are looked at, per layer
LARGEST_SCALE = {8: 2**15 - 1, 16: 2**23}


def to_integers(network: Exportable, images: Tensor, timesteps: int, bits: int) -> None:
    """Round all weights, set thresholds and the scale of the output.

    Args:
        images: that decide how is rounded, [N, C, H, W].
        bits: 8 or 16; biases are of 32.
    """
    rates = _rates(network, images.float(), timesteps)
    scale = _scales(network, rates, bits)
    means = {layer.name: _per_channel(rates.pop(layer.name)) for layer in network.weighted}
    _round(network, images.float(), timesteps, scale, means, bits)
    network.bits = bits


def _rates(network: Exportable, images: Tensor, timesteps: int) -> dict[str, Tensor]:
    """The mean over time of what each layer sends, [N, *shape]."""
    _, spikes = simulate(network, images, timesteps)
    found: dict[str, Tensor] = {}
    for layer in network.layers.values():
        if isinstance(layer, Image):
            found[layer.name] = images.cpu()
        elif isinstance(layer, Neurons):
            found[layer.name] = spikes.pop(layer.site).float().mean(0).cpu()
        else:
            found[layer.name] = layer(sum(found[name] for name in layer.inputs))
    return found


def _scales(network: Exportable, rates: dict[str, Tensor], bits: int) -> dict[str, int]:
    """How many times as large as before what each layer sends is: K of its group, 1 of neurons."""
    scale = dict.fromkeys(network.layers, 1)
    most = 2 ** (bits - 1) - 1
    for group in _groups(network):
        layers = [network.layers[name] for name in group]
        views = [_View(layer, scale[layer.inputs[0]], rates) for layer in layers]
        largest = max(float(view.weight.abs().max()) for view in views) or 1.0
        reaches = REACH if bits == 8 else (1.0,)
        tried = {int(min(max(1, most / largest * r), LARGEST_SCALE[bits])) for r in reaches}
        errors = {k: sum(view.error(k, most) for view in views) for k in sorted(tried)}
        scale.update(dict.fromkeys(group, min(errors, key=errors.get)))
        for layer in network.layers.values():  # pools and flattening hand it on
            if not isinstance(layer, (Weighted, Neurons, Image)):
                scale[layer.name] = scale[layer.inputs[0]]
    return scale


def _round(network: Exportable, images: Tensor, timesteps: int, scale, means, bits: int) -> None:
    """Round layer by layer; each bias makes up for what was rounded in front of it and in it.

    The network that is rounded so far runs beside: {layer: [T, N, *shape]}, of neurons and what
    they reach without weights; what depends on the image alone has one step.
    """
    most, sent = 2 ** (bits - 1) - 1, {network.image.name: images.unsqueeze(0)}
    for layer in network.layers.values():
        if isinstance(layer, Image):
            continue
        given = _summed([sent[name] for name in layer.inputs])
        if isinstance(layer, Weighted):
            by = scale[layer.name] / scale[layer.inputs[0]]
            layer.weight = (layer.weight * by).round().clamp_(-most - 1, most)
            layer.bias = None
            mean = _per_channel(layer(given.mean(0)))
            layer.bias = (means[layer.name] * scale[layer.name] - mean).round()
        if isinstance(layer, Neurons):
            layer.threshold = float(scale[layer.inputs[0]])
            sent[layer.name] = _fire(layer, given, timesteps)
        elif isinstance(layer, Readout):
            layer.scale = float(scale[layer.inputs[0]])
        else:
            sent[layer.name] = torch.stack([layer(step) for step in given])
        for name in layer.inputs:
            if name != network.image.name and network.readers(name)[-1] is layer:
                del sent[name]


def _summed(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _fire(layer: Neurons, current: Tensor, timesteps: int) -> Tensor:
    """What neurons send in every step, [T, N, *shape]."""
    v = torch.full_like(current[0], layer.starts_at * layer.threshold)
    sent = current.new_empty(timesteps, *v.shape)
    for step in range(timesteps):
        v.add_(current[step if len(current) > 1 else 0])
        sent[step] = v >= layer.threshold
        v.sub_(sent[step], alpha=layer.threshold)
    return sent


def _per_channel(values: Tensor) -> Tensor:
    """The mean of [N, C, ...] over everything but the channels."""
    return values.double().transpose(0, 1).flatten(1).mean(1).cpu()


def _groups(network: Exportable) -> list[list[str]]:
    """Names of the layers of weights that are summed somewhere and so need one scale, in order."""
    group_of: dict[str, set[str]] = {layer.name: {layer.name} for layer in network.weighted}
    behind: dict[str, set[str]] = {}  # weights whose scale a layer's result has
    for layer in network.layers.values():
        if isinstance(layer, Weighted):
            behind[layer.name] = {layer.name}
        elif isinstance(layer, (Neurons, Image)):
            behind[layer.name] = set()
        else:
            behind[layer.name] = set().union(*(behind[name] for name in layer.inputs))
        joined = set().union(*(behind[name] for name in layer.inputs)) if layer.inputs else set()
        if joined:
            merged = set().union(*(group_of[name] for name in joined))
            for name in merged:
                group_of[name] = merged
    found, seen = [], set()
    for layer in network.weighted:
        if layer.name not in seen:
            found.append([name for name in network.layers if name in group_of[layer.name]])
            seen |= group_of[layer.name]
    return found


class _View:
    """A layer of weights with what it sees of images; its inputs come `given` times as large."""

    def __init__(self, layer: Weighted, given: int, rates: dict[str, Tensor]):
        self.weight, self.groups = layer.weight.flatten(1) / given, layer.groups
        seen = _windows(layer, sum(rates[name] for name in layer.inputs) * given)
        self.centred = seen - seen.mean(1, keepdim=True)  # [groups, positions, fan-in]

    def error(self, scale: int, most: int) -> float:
        """Sum over the outputs of the variance of the change of their currents, in thresholds.

        Their mean is left out: the bias takes that over.
        """
        rounded = (self.weight * scale).round().clamp_(-most - 1, most)
        wrong = (rounded / scale - self.weight).to(self.centred)
        by_group = wrong.view(self.groups, -1, wrong.shape[1])
        return float((self.centred @ by_group.transpose(1, 2)).square().mean(1).sum())


def _windows(layer: Weighted, x: Tensor) -> Tensor:
    """What the weights of a layer see, [groups, positions, fan-in], of some positions."""
    if layer.weight.dim() == 2:
        return x[None]
    kernel = layer.weight.shape[2:]
    each = max(1, math.ceil(POSITIONS / len(x)))
    columns = F.unfold(x, kernel, layer.dilation, layer.padding, layer.stride)  # [N, fan-in, L]
    if columns.shape[2] > each:
        columns = columns[:, :, torch.linspace(0, columns.shape[2] - 1, each).long()]
    columns = columns.transpose(1, 2).flatten(0, 1)  # [positions, channels * kernel]
    return columns.view(len(columns), layer.groups, -1).transpose(0, 1)
