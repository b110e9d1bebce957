"""Read network.nir into SpikingJelly with the settings that keep what the conversion computes.

    network = load("network.nir")
    outputs, spikes = network(images, timesteps=32)  # [T, B, classes], {node: [T, B, ...]}

SpikingJelly's own import (`keep_meaning=False`) resets a neuron to `v_reset` and starts it at 0. Here
it is reset by subtraction and starts at `v_init`; firing at the threshold is SpikingJelly's own.
"""

import nir
import numpy as np
import torch
from spikingjelly.activation_based import neuron
from spikingjelly.activation_based.nir_exchange import import_from_nir


def load(path, keep_meaning=True, device="cpu"):
    """The network of a file."""
    return Network(nir.read(str(path)), keep_meaning, device)


class Network:
    """Calls: images [B, C, H, W], timesteps -> outputs [T, B, classes], {node: spikes [T, B, ...]}."""

    def __init__(self, graph, keep_meaning, device):
        for node in graph.nodes.values():
            if hasattr(node, "weight"):  # whole numbers are taken as floats only
                node.weight, node.bias = np.float32(node.weight), np.float32(node.bias)
        self.model, self.spikes = import_from_nir(graph, device=device).eval(), {}
        for name, node in graph.nodes.items():
            if isinstance(node, nir.IF):
                layer = self.model.get_submodule(name).module
                assert isinstance(layer, neuron.IFNode), name
                if keep_meaning:
                    layer.v_reset = None
                    layer.v = float(node.metadata["v_init"])
                self.spikes[name] = []
                self.model.get_submodule(name).register_forward_hook(self.keep(name))

    def keep(self, name):
        def hook(module, args, output):
            self.spikes[name].append(output[0].bool())

        return hook

    @torch.no_grad()
    def __call__(self, images, timesteps):
        for sent in self.spikes.values():
            sent.clear()
        state, outputs = None, []
        for _ in range(timesteps):
            output, state = self.model(images, state)
            outputs.append(output)
        return torch.stack(outputs), {n: torch.stack(sent) for n, sent in self.spikes.items()}
