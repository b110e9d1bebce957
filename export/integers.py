"""Weights of 8 or 16 bits on one scale with the threshold, layer by layer.

A neuron fires where a sum reaches its threshold, so both may be multiplied by the same number: with
threshold K, a whole number, weights W become round(K W). A larger K rounds finer and cuts off the
largest weights; K is the one whose currents differ least on data. Weights are rounded to the nearest
number, or so that the error of one makes up for that of the others (E. Frantar et al., "GPTQ", ICLR
2023), whichever differs less. The bias takes over what the rounding changes on average.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .layers import Exportable, Image, Neurons, Readout, Weighted
from .simulation import simulate

# how far beyond the K that holds the largest weight
REACH = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
POSITIONS = 4096  # of images and pixels whose inputs are looked at, per layer
LARGEST_JOINT = 5000  # inputs of a neuron up to which weights are rounded jointly
BLOCK, DAMPING = 128, 0.01
LARGEST_SCALE = {8: 2**15 - 1, 16: 2**23}


def to_integers(network: Exportable, images: Tensor, timesteps: int, bits: int) -> None:
    """Round all weights, set thresholds and the scale of the output.

    Args:
        images: that decide how is rounded, [N, C, H, W].
        bits: 8 or 16; biases are of 32.
    """
    rates = _rates(network, images.float(), timesteps)
    scale = dict.fromkeys(network.layers, 1)  # of what a layer sends
    for group in _groups(network):
        layers = [network.layers[name] for name in group]
        work = [_Rounding(layer, scale[layer.inputs[0]], rates, network) for layer in layers]
        most = 2 ** (bits - 1) - 1
        largest = max(float(w.weight.abs().max()) for w in work) or 1.0
        least = min(most / largest, LARGEST_SCALE[bits])
        tried = sorted({max(1, int(least * reach)) for reach in REACH if bits == 8 or reach == 1.0})
        errors = {k: sum(w.error(w.nearest(k, most), k) for w in work) for k in tried}
        chosen = min(errors, key=errors.get)
        for one in work:
            one.round(chosen, most)
        _spread(network, group, chosen, scale)
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


def _spread(network: Exportable, group: list[str], chosen: int, scale: dict[str, int]) -> None:
    """What reads a group's sums gets its scale: neurons as their threshold."""
    for name in group:
        scale[name] = chosen
    for layer in network.layers.values():
        given = {scale[name] for name in layer.inputs}
        if isinstance(layer, Neurons) and {*layer.inputs} & {*group}:
            layer.threshold = float(chosen)
        elif isinstance(layer, Readout):
            layer.scale = float(scale[layer.inputs[0]])
        elif not isinstance(layer, (Weighted, Neurons, Image)):
            scale[layer.name] = next(iter(given))


@dataclasses.dataclass
class _Rounding:
    """The rounding of one layer whose inputs come `given` times as large as they mean."""

    layer: Weighted
    given: int
    rates: dict[str, Tensor]
    network: Exportable

    def __post_init__(self):
        self.weight = self.layer.weight.flatten(1) / self.given
        inputs = sum(self.rates[name] for name in self.layer.inputs) * self.given
        seen = _windows(self.layer, inputs.double())  # [groups, positions, fan-in]
        self.mean = seen.mean(1)
        self.products = seen.transpose(1, 2) @ seen / seen.shape[1]  # [groups, fan-in, fan-in]

    def nearest(self, scale: int, most: int) -> Tensor:
        return (self.weight * scale).round().clamp_(-most - 1, most)

    def error(self, rounded: Tensor, scale: int) -> float:
        """Sum over the outputs of the mean square error of their currents, in thresholds."""
        wrong = self.by_group(rounded / scale - self.weight)
        wrong_mean = torch.einsum("goi,gi->go", wrong, self.mean)  # the bias takes that over
        square = torch.einsum("goi,gij,goj->", wrong, self.products, wrong)
        return float(square - wrong_mean.square().sum())

    def by_group(self, weight: Tensor) -> Tensor:
        return weight.view(self.layer.groups, -1, weight.shape[1])

    def round(self, scale: int, most: int) -> None:
        best = self.nearest(scale, most)
        if most == 127 and self.layer.fan_in <= LARGEST_JOINT:
            jointly = self.jointly(scale, most)
            if self.error(jointly, scale) < self.error(best, scale):
                best = jointly
        change = torch.einsum("goi,gi->go", self.by_group(self.weight - best / scale), self.mean)
        bias = change.flatten() + (0 if self.layer.bias is None else self.layer.bias)
        self.layer.weight = best.view_as(self.layer.weight)
        self.layer.bias = (bias * scale).round()

    def jointly(self, scale: int, most: int) -> Tensor:
        """Round input by input; what one rounds wrong the later ones make up for."""
        groups = []
        for weight, products in zip(self.by_group(self.weight * scale), self.products, strict=True):
            upper = _inverse_factor(products)
            left, rounded = weight.clone(), torch.empty_like(weight)
            for first in range(
                0, left.shape[1], BLOCK
            ):  # later blocks make up once a block is done
                last = min(first + BLOCK, left.shape[1])
                wrong = torch.empty_like(left[:, first:last])
                for i in range(first, last):
                    rounded[:, i] = left[:, i].round().clamp_(-most - 1, most)
                    wrong[:, i - first] = (left[:, i] - rounded[:, i]) / upper[i, i]
                    left[:, i:last] -= wrong[:, i - first, None] * upper[None, i, i:last]
                left[:, last:] -= wrong @ upper[first:last, last:]
            groups.append(rounded)
        return torch.cat(groups)


def _inverse_factor(products: Tensor) -> Tensor:
    """The upper Cholesky factor of the inverse of products of inputs, damped by a hundredth."""
    damp = DAMPING * products.diagonal().mean().clamp_min(1e-12)
    damped = products + damp * torch.eye(len(products), dtype=products.dtype)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True)


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
