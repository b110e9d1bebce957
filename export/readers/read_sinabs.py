"""Read network.nir into sinabs with the settings that keep what the conversion computes.

    network = load("network.nir")
    outputs, spikes = network(images, timesteps=32)  # [T, B, classes], {node: [T, B, ...]}

sinabs' own import (`keep_meaning=False`) lets a neuron send several spikes in one step, clips its
potential from below, starts it at 0, and runs a sum of two branches before the second is there. Here
each sends one spike per step at most, has no lower bound and starts at `v_init`, and what is summed
runs first; reset by subtraction and firing at the threshold are sinabs' own.
"""

import nir
import torch
from sinabs.activation import SingleSpike
from sinabs.layers import IAFSqueeze
from sinabs.nir import from_nir


def load(path, keep_meaning=True, device="cpu"):
    """The network of a file."""
    return Network(nir.read(str(path)), keep_meaning, device)


class Network:
    """Calls: images [B, C, H, W], timesteps -> outputs [T, B, classes], {node: spikes [T, B, ...]}."""

    def __init__(self, graph, keep_meaning, device):
        self.graph, self.keep_meaning, self.device = graph, keep_meaning, device

    @torch.no_grad()
    def __call__(self, images, timesteps):
        batch, spikes = len(images), {}
        model = from_nir(self.graph, num_timesteps=timesteps).eval().to(self.device)
        if self.keep_meaning:
            order = _in_order(self.graph)
            model.execution_order.sort(key=lambda node: order[node.name])
        for name, layer in model.named_modules():
            if isinstance(layer, IAFSqueeze):
                self.prepare(layer, self.graph.nodes[_node_name(self.graph, name)], batch)
                layer.register_forward_hook(_keep(spikes, _node_name(self.graph, name)))
        steps = images.repeat_interleave(
            timesteps, 0
        )  # [B * T, ...], the steps of an image together
        outputs = model(steps)
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs  # with states, or without
        return _split(outputs, batch), {name: _split(sent, batch) for name, sent in spikes.items()}

    def prepare(self, layer, node, batch):
        if self.keep_meaning:
            layer.spike_fn, layer.min_v_mem = SingleSpike, None
            layer.init_state_with_shape((batch, *node.v_threshold.shape))
            layer.v_mem.data.fill_(float(node.metadata["v_init"]))


def _in_order(graph):
    """{node: its place among all, after everything that it reads}."""
    order, waiting = {}, list(graph.nodes)
    while waiting:
        name = next(n for n in waiting if not any(b == n and a in waiting for a, b in graph.edges))
        order[name] = len(order)
        waiting.remove(name)
    return order


def _node_name(graph, path):
    wanted = path.rsplit(".", 1)[-1]
    return next(name for name in graph.nodes if name == wanted)


def _keep(spikes, name):
    def hook(module, args, output):
        spikes[name] = output

    return hook


def _split(x, batch):
    return x.view(batch, -1, *x.shape[1:]).transpose(0, 1)
