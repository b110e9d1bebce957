"""Ideal neurons: a spiking network without the error that spikes make, to prove the rest of it.

What is left of a difference to the original network then comes from time domains, operands, offsets
and masks. With one step and `quantised` the network is its own QCFS twin.
"""

import contextlib
import functools
import operator

import torch
from torch import Tensor

from ..neurons import SpikingNeuron, quantise
from ..neurons.qcfs import broadcast_threshold, clip


class _Ideal:
    """Stands in for a neuron's `forward`: reads and gives a chunk [K * B, ...]."""

    def __init__(self, neuron: SpikingNeuron, quantised: bool, aim: Tensor | None, random):
        self.neuron, self.quantised, self.aim, self.random = neuron, quantised, aim, random

    def __call__(self, x: Tensor) -> Tensor:
        clock = self.neuron.clock
        sent = []
        for k, step in enumerate(clock.split(x)):
            t = clock.start + k + 1
            self.read = step if t == 1 else self.read + step
            target = self.target(step, t)
            sent.append(target if t == 1 else target - self.sent)
            self.sent = target if t == 1 else self.sent + sent[-1]
        return torch.cat(sent).view(x.shape) if len(sent) > 1 else sent[0]

    def target(self, x: Tensor, t: int) -> Tensor:
        """What must have been sent after step t, given what is read in it, both [B, ...]."""
        coding = self.neuron.coding
        value = x if self.neuron.running_input or t == 1 else coding.running(self.read, t)
        value = value if self.aim is None else self.aim
        height = broadcast_threshold(self.neuron.threshold, self.neuron.axis, x.dim()).to(x)
        if self.random is not None and t == 1:
            share = torch.rand(x.shape, generator=self.random, dtype=torch.double)
            return share.to(x) * height
        if not self.quantised:
            return coding.total(clip(value, height, self.neuron.signed), t)
        levels = self.neuron.levels
        value = quantise(value, height, levels, self.neuron.signed).mul_(height / levels)
        return value if t == 1 else coding.total(value, t)


@contextlib.contextmanager
def ideal_neurons(
    network,
    quantised: bool,
    masks: str = "frozen",
    aims: dict[str, Tensor] | None = None,
    uneven: bool = False,
):
    """Context manager; inside it every neuron of a `SpikingNetwork` is ideal.

    An ideal neuron sends in each step what is still missing to its target: after step t that is
    t * f(mean of what it read in steps 1..t) for rate coding, f(their sum) for cumulative coding. A
    step-wise bias is left out. Recordings, observers, clock and what the network has measured are
    set aside meanwhile.

    Args:
        quantised: f is QCFS, with threshold and levels of the site; else it is clip(x, 0, threshold).
        masks: "frozen": masks that are the same in every step stay, the others act as their
            expectation; "expectation": all act as their expectation.
        aims: {site: [B, ...]}, what f is taken of in place of what the neurons read.
        uneven: in the first step a neuron sends anything between 0 and its threshold, at random, so
            that a step and the running value differ: targets hold from the second step on.
    """
    assert masks in ("frozen", "expectation"), masks
    random = torch.Generator().manual_seed(0) if uneven else None
    replaced = {
        site.neuron: _Ideal(site.neuron, quantised, (aims or {}).get(name), random)
        for name, site in network.sites.items()
    }
    for mask in network.masks.values():
        if masks == "expectation" or not mask.frozen:
            replaced[mask] = functools.partial(operator.mul, mask.expectation)
    with network.set_aside():
        try:
            for module, forward in replaced.items():
                module.forward = forward  # hides the method of its class
            yield network
        finally:
            for module in replaced:
                module.__dict__.pop("forward", None)
