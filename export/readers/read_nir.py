"""Read network.nir and simulate it as its metadata say, with numpy, torch and nir alone.

    network = load("network.nir")
    outputs, spikes = network(images, timesteps=32)  # [T, B, classes], {node: [T, B, ...]}

Every neuron adds its input, sends 1 where its potential reaches the threshold, and subtracts the
threshold there; it starts at `v_init`. With `keep_meaning=False` it does what the text of nir says of
an IF that carries no metadata: it starts at 0, fires above the threshold, and is reset to `v_reset`.
"""

import nir
import numpy as np
import torch
import torch.nn.functional as F


def load(path, keep_meaning=True, device="cpu"):
    """The network of a file."""
    return Network(nir.read(str(path)), keep_meaning, device)


class Network:
    """Calls: images [B, C, H, W], timesteps -> outputs [T, B, classes], {node: spikes [T, B, ...]}."""

    def __init__(self, graph, keep_meaning, device):
        self.nodes, self.keep_meaning = graph.nodes, keep_meaning
        self.inputs = {name: [] for name in graph.nodes}
        for source, target in graph.edges:
            self.inputs[target].append(source)
        self.order, waiting = [], list(graph.nodes)
        while waiting:
            ready = [n for n in waiting if not set(self.inputs[n]) & set(waiting)]
            self.order += ready
            waiting = [n for n in waiting if n not in ready]

    @torch.no_grad()
    def __call__(self, images, timesteps):
        state, values, outputs = {}, {}, []
        spikes = {n: [] for n, node in self.nodes.items() if isinstance(node, nir.IF)}
        for _ in range(timesteps):
            for name in self.order:
                node = self.nodes[name]
                given = [values[source] for source in self.inputs[name]]
                x = sum(given[1:], given[0]) if given else images
                if isinstance(node, nir.IF):
                    x = self.fire(name, node, x, state)
                    spikes[name].append(x.bool())
                elif isinstance(node, nir.Output):
                    outputs.append(x)
                else:
                    x = _apply(node, x)
                values[name] = x
        return torch.stack(outputs), {name: torch.stack(sent) for name, sent in spikes.items()}

    def fire(self, name, node, x, state):
        meaning = node.metadata if self.keep_meaning else {}
        threshold = float(meaning.get("threshold", node.v_threshold.flat[0]))
        v = state.get(name, torch.full_like(x, float(meaning.get("v_init", 0)))) + x
        if self.keep_meaning:
            sent = (v >= threshold).to(x)
            state[name] = v - threshold * sent
        else:
            sent = (v > threshold).to(x)
            state[name] = torch.where(sent > 0, float(node.v_reset.flat[0]), v)
        return sent


def _like(x, array):
    return torch.from_numpy(np.asarray(array, dtype=np.float32)).to(x.device)


def _pair(value):
    return tuple(int(v) for v in np.atleast_1d(value)) if np.ndim(value) else int(value)


def _apply(node, x):
    if isinstance(node, nir.Input):
        return x
    if isinstance(node, nir.Affine):
        return F.linear(x, _like(x, node.weight), _like(x, node.bias))
    if isinstance(node, nir.Conv2d):
        sides = (_pair(side) for side in (node.stride, node.padding, node.dilation))
        weight, bias = _like(x, node.weight), _like(x, node.bias)
        return F.conv2d(x, weight, bias, *sides, groups=int(node.groups))
    if isinstance(node, (nir.SumPool2d, nir.AvgPool2d)):
        kernel = _pair(node.kernel_size)
        mean = F.avg_pool2d(x, kernel, _pair(node.stride), _pair(node.padding))
        return mean * int(np.prod(kernel)) if isinstance(node, nir.SumPool2d) else mean
    if isinstance(node, nir.Flatten):
        return x.flatten(1)
    raise ValueError(f"no rule for a node of type {type(node).__name__}")
