"""What the exported layers compute, step by step, and whether recorded spikes follow their rule."""

import dataclasses

import torch
from torch import Tensor

from .layers import Exportable, Image, Layer, Neurons, Readout


def simulate(network: Exportable, images: Tensor, timesteps: int) -> tuple[Tensor, dict]:
    """Run a network, in the type of the images.

    Args:
        images: [B, C, H, W].
        timesteps: T.

    Returns:
        The output of each step [T, B, classes], and {site: spikes [T, B, ...]} as booleans.
    """
    spikes = {layer.site: [] for layer in network.neurons}
    state: dict[str, Tensor] = {}

    def fire(layer: Neurons, current: Tensor, step: int) -> Tensor:
        if step == 0:
            state[layer.name] = torch.full_like(current, layer.starts_at * layer.threshold)
        v = state[layer.name].add_(current)
        sent = v >= layer.threshold
        v.sub_(sent.to(v), alpha=layer.threshold)
        spikes[layer.site].append(sent)
        return sent.to(v)

    outputs = _steps(network, images, timesteps, fire)
    return outputs, {site: torch.stack(steps) for site, steps in spikes.items()}


@dataclasses.dataclass
class Obedience:
    """How far recorded spikes follow the rule of the neurons that are said to have sent them.

    Attributes:
        spikes: how many decisions (one a neuron, image and step) were looked at.
        ties: decisions that differ where the membrane potential lies within `tolerance` of the
            threshold: rounding decides there.
        breaches: those that differ elsewhere.
        furthest: the largest distance of a decision that differs, in thresholds.
        layers: {site: breaches}, of sites that have any.
        readout_error: largest difference of an output from what the last spikes give, over the
            largest output.
    """

    spikes: int = 0
    ties: int = 0
    breaches: int = 0
    furthest: float = 0.0
    layers: dict[str, int] = dataclasses.field(default_factory=dict)
    readout_error: float = 0.0

    def add(self, other: "Obedience") -> None:
        self.spikes += other.spikes
        self.ties += other.ties
        self.breaches += other.breaches
        self.furthest = max(self.furthest, other.furthest)
        self.readout_error = max(self.readout_error, other.readout_error)
        for site, count in other.layers.items():
            self.layers[site] = self.layers.get(site, 0) + count


# float32 sums of up to some thousand weights are off by 1e-6 to 1e-5 of a threshold per step
TOLERANCE = 1e-4


def obedience(
    network: Exportable, images: Tensor, recorded: dict[str, Tensor], outputs: Tensor
) -> Obedience:
    """Hold a recording against the rule, in float64, every neuron by what it was really sent.

    A spike that differs from another simulation's says little: it may follow from a tie far away.
    Here each neuron reads the recorded spikes of those in front of it and is reset by its own
    recorded spikes, so that every decision is judged by itself.

    Args:
        images: [B, C, H, W].
        recorded: {site: spikes [T, B, ...]} of all sites.
        outputs: of each step [T, B, classes].
    """
    found = Obedience()
    state: dict[str, Tensor] = {}

    def judge(layer: Neurons, current: Tensor, step: int) -> Tensor:
        if step == 0:
            state[layer.name] = torch.full_like(current, layer.starts_at * layer.threshold)
        v = state[layer.name].add_(current)
        sent = recorded[layer.site][step].to(v)
        differs = (v >= layer.threshold) != sent.bool()
        found.spikes += differs.numel()
        if differs.any():
            distance = (v[differs] / layer.threshold - 1).abs()
            found.furthest = max(found.furthest, float(distance.max()))
            ties = int((distance <= TOLERANCE).sum())
            found.ties += ties
            if breaches := distance.numel() - ties:
                found.breaches += breaches
                found.layers[layer.site] = found.layers.get(layer.site, 0) + breaches
        v.sub_(sent, alpha=layer.threshold)
        return sent

    expected = _steps(network, images.double(), len(outputs), judge)
    largest = expected.abs().max().clamp_min(1e-30)
    found.readout_error = float((outputs.double() - expected).abs().max() / largest)
    return found


@torch.no_grad()
def _steps(network: Exportable, images: Tensor, timesteps: int, neurons) -> Tensor:
    """The outputs of all steps; `neurons` (layer, current, step) gives what neurons send."""
    fixed = network.constant()
    values: dict[str, Tensor] = {}
    outputs = []
    for step in range(timesteps):
        for layer in network.layers.values():
            if isinstance(layer, Image):
                values[layer.name] = images
            elif step and layer.name in fixed:
                continue
            elif isinstance(layer, Neurons):
                values[layer.name] = neurons(layer, _read(layer, values), step)
            else:
                values[layer.name] = layer(_read(layer, values))
            if isinstance(layer, Readout):
                outputs.append(values[layer.name])
    return torch.stack(outputs)


def _read(layer: Layer, values: dict[str, Tensor]) -> Tensor:
    total = values[layer.inputs[0]]
    for name in layer.inputs[1:]:
        total = total + values[name]
    return total
