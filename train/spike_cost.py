"""What a converted network will accumulate, as a term of the loss: training for fewer spikes."""

import math

import torch
from torch import Tensor, nn

from ..convert import convert_model
from ..convert.passes.masks import masked_sites, trained_ratio
from ..counting import NodeCounter
from ..neurons import QCFS


def check_spike_cost(weight: float) -> float:
    """The weight, if it is one.

    Raises:
        ValueError: it is negative or no number.
    """
    if not 0 <= weight < math.inf:
        raise ValueError(f"spike cost {weight} must be a number from 0 on, e.g. 0.3; 0 is off")
    return weight


class SpikeCost:
    """Expected accumulations per image, over the operations of the dense network.

    A neuron that stands for level l of L sends powers of two (neuron "multi"), so about
    log2(1 + |l|) spikes, and each reaches what its layers read it for: its fan-out, counted on the
    converted network, products by increments among it. Both are differentiable in the activations
    and in the thresholds, with the gradient of QCFS.

    Args:
        model: a network with QCFS sites; what they give in train mode is collected until `loss`.
        images: a batch [B, C, H, W] that shows the size.
        weight: factor of the loss.

    Attributes:
        fan_out: {site: outputs that one of its spikes reaches, what masks drop left out}.
        operations: multiplications and accumulations of the dense network per image, the image layer
            left out.

    Raises:
        ValueError: a network without QCFS sites, a weight that is negative.
    """

    def __init__(self, model: nn.Module, images: Tensor, weight: float):
        sites = {name: m for name, m in model.named_modules() if isinstance(m, QCFS)}
        if not sites:
            raise ValueError(
                "a spike cost needs QCFS sites and this network has none; set TRAIN.SPIKE_COST to 0"
            )
        self.weight = weight
        self.fan_out, self.operations = _fan_outs(model, images[:1])
        self._seen: list[Tensor] = []
        for name, site in sites.items():
            if self.fan_out.get(name):
                site.register_forward_hook(self._hook(self.fan_out[name]))

    def _hook(self, fan_out: float):
        def see(site: QCFS, _, output: Tensor) -> None:
            if site.training and torch.is_grad_enabled():
                spikes = torch.log2(1 + site.levels_of(output).abs())
                self._seen.append(spikes.sum() * (fan_out / len(output)))

        return see

    def accumulations(self) -> Tensor:
        """Expected accumulations per image of the last training call; it is forgotten."""
        total = torch.stack(self._seen).sum()
        self._seen.clear()
        return total

    def loss(self) -> Tensor:
        """The term of the loss for the last training call."""
        return self.accumulations() * (self.weight / self.operations)


@torch.no_grad()
def _fan_outs(model: nn.Module, images: Tensor) -> tuple[dict[str, float], int]:
    """What a spike of each site reaches, and all operations, from one step of the conversion."""
    snn = convert_model(model, neuron="multi", example_inputs=images, check=False)
    counter = NodeCounter(snn)
    with counter.attached(), counter.forward(images, 1) as alias:
        snn(alias, timesteps=1)
    counter.close(images=len(images), steps=1)
    found: dict[str, float] = {}
    operations = 0
    for row in counter.ledger.rows.values():
        if row.image:
            continue
        operations += row.macs
        for side in (row.left, row.right):
            for name in side.sources:
                found[name] = found.get(name, 0.0) + side.connections / side.elements
    kept = 1 - trained_ratio(model)
    for name in masked_sites(model) if kept < 1 else ():
        found[name] = found.get(name, 0.0) * kept
    return found, operations // len(images)
