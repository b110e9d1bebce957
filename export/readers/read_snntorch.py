"""Read network.nir into snnTorch with the settings that keep what the conversion computes.

    network = load("network.nir")
    outputs, spikes = network(images, timesteps=32)  # [T, B, classes], {node: [T, B, ...]}

snnTorch's own import (`keep_meaning=False`) makes leaky neurons (beta 0.9) that give pairs, which its
other layers refuse, and holds a spike back where the potential stays above the threshold after a
reset. Here beta is 1, states are hidden, the reset of a spike acts with the next input
(`reset_delay`), and neurons start at `v_init`. The threshold in the file is the next number below,
because snnTorch fires above it.
"""

import nir
import snntorch
import torch
from snntorch.import_nir import import_from_nir


def load(path, keep_meaning=True, device="cpu"):
    """The network of a file."""
    return Network(nir.read(str(path)), keep_meaning, device)


class Network:
    """Calls: images [B, C, H, W], timesteps -> outputs [T, B, classes], {node: spikes [T, B, ...]}."""

    def __init__(self, graph, keep_meaning, device):
        self.neurons = {
            name: node for name, node in graph.nodes.items() if isinstance(node, nir.IF)
        }
        self.model = import_from_nir(graph).eval().to(device)
        self.keep_meaning, self.spikes = keep_meaning, {}
        for name, layer in self.model.named_modules():
            if isinstance(layer, snntorch.Leaky):
                if keep_meaning:
                    layer.beta.fill_(1.0)
                    layer.init_hidden = layer.reset_delay = True
                layer.register_forward_hook(self.keep(name))

    def keep(self, name):
        def hook(module, args, output):
            self.spikes[name].append((output if self.keep_meaning else output[0]).bool())

        return hook

    @torch.no_grad()
    def __call__(self, images, timesteps):
        self.spikes = {name: [] for name in self.neurons}
        for name, node in self.neurons.items():
            start = float(node.metadata["v_init"]) if self.keep_meaning else 0.0
            layer = self.model.get_submodule(name)
            shape = (len(images), *node.v_threshold.shape)
            layer.mem = torch.full(shape, start, device=images.device)
        state, outputs = None, []
        for _ in range(timesteps):
            output, state = self.model(images, state)
            outputs.append(output.flatten(1))
        return torch.stack(outputs), {n: torch.stack(sent) for n, sent in self.spikes.items()}
