"""Read network.nir into norse, as near to what the conversion computes as norse comes.

    network = load("network.nir")
    outputs, spikes = network(images, timesteps=32)  # [T, B, classes], {node: [T, B, ...]}

Not tried: norse's packages of 2026 have no `from_nir`, its repository has. It resets an
integrate-and-fire neuron to 0 where the conversion subtracts the threshold; no setting changes that, so
what a neuron receives beyond its threshold is lost.
"""

import nir
import torch
from norse.torch import from_nir


def load(path, keep_meaning=True, device="cpu"):
    """The network of a file."""
    return Network(nir.read(str(path)), keep_meaning, device)


class Network:
    """Calls: images [B, C, H, W], timesteps -> outputs [T, B, classes], {node: spikes [T, B, ...]}."""

    def __init__(self, graph, keep_meaning, device):
        self.model = from_nir(graph).eval().to(device)
        self.neurons = {
            name: node for name, node in graph.nodes.items() if isinstance(node, nir.IF)
        }
        self.spikes = {}
        for name in self.neurons:
            self.model.get_submodule(name).register_forward_hook(self.keep(name))

    def keep(self, name):
        def hook(module, args, output):
            self.spikes[name].append(output[0].bool())

        return hook

    @torch.no_grad()
    def __call__(self, images, timesteps):
        self.spikes = {name: [] for name in self.neurons}
        state, outputs = None, []
        for _ in range(timesteps):
            output, state = self.model(images, state)
            outputs.append(output)
        return torch.stack(outputs), {n: torch.stack(sent) for n, sent in self.spikes.items()}
