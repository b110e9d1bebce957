"""From the network's outputs in each step to its estimate of every output after each step."""

import torch
from torch import Tensor, fx

from ..graph.domains import Domain
from ..graph.outputs import in_structure, output_nodes
from ..neurons import Accumulate, Coding, SpikingNeuron
from ..neurons.clock import for_sums
from ..ops import module_of


class Readout:
    """Collects chunks [K * B, ...] of one output into [T, B, ...].

    Args:
        coding: of the network's neurons.
        running: the chunks are running values already, not single steps.
        readout: name of a readout of that coding.
        read: the chunks are the readout already.
    """

    def __init__(self, coding: Coding, running: bool, readout: str, read: bool = False):
        self.coding, self.running, self.read = coding, running, read
        self.readout = coding.check_readout(readout)
        self.steps: list[Tensor] = []  # [B, ...] sum of the first t outputs, t = 1, 2, ...

    def add(self, chunk: Tensor, steps: int) -> None:
        if self.running and not chunk.is_floating_point():  # answers and indices
            self.read = True
        chunk = chunk if self.read else for_sums(chunk)
        for x in chunk.view(steps, chunk.shape[0] // steps, *chunk.shape[1:]):
            if self.running and not self.read:
                x = self.coding.total(x, len(self.steps) + 1)
            elif self.steps and not self.read:
                x = self.steps[-1] + x
            self.steps.append(x)

    def result(self) -> Tensor:
        """[T, B, ...]"""
        steps = torch.stack(self.steps)
        return steps if self.read else self.coding.read(steps, self.readout)


class Readouts:
    """The readouts of all outputs of a network, in its structure.

    What a network computes behind its last neurons from running values (a softmax, a tanh, an upper
    bound) acts on the readout of what it reads: on the mean of the steps that the readout takes, not
    on each step and not on other steps. Where neurons read such a running value, too, it stays the
    mean of all steps, and the readout of an output f(m(t)) is the mean of t f(m(t)) - (t-1) f(m(t-1)).

    Args:
        gm: the graph of a spiking network.
        readout: name of a readout of the coding.
    """

    def __init__(self, gm: fx.GraphModule, coding: Coding, readout: str):
        self.gm, self.name = gm, coding.check_readout(readout)
        nodes = output_nodes(gm)
        found = last_accumulations(gm) if coding.clips and readout != "mean" else {}
        self.windowed = {module_of(gm, node) for nodes_ in found.values() for node in nodes_}
        self.all = [
            Readout(coding, node.meta["domain"] is Domain.RUNNING, readout, bool(found.get(node)))
            for node in nodes
        ]

    def begin(self) -> None:
        for module in self.windowed:
            module.readout = self.name

    def end(self) -> None:
        for module in self.windowed:
            module.readout = None

    def add(self, chunks: list[Tensor], steps: int) -> None:
        for readout, chunk in zip(self.all, chunks, strict=True):
            readout.add(chunk, steps)

    def result(self):
        """[T, B, classes], or a structure of such tensors."""
        results = [readout.result() for readout in self.all]
        return in_structure(self.gm, results if "output" in self.gm.meta else results[0])


def last_accumulations(gm: fx.GraphModule) -> dict[fx.Node, set[fx.Node]]:
    """{output: the nodes that make running values for it}, of the outputs that share none with neurons."""
    to_neurons: set[fx.Node] = set()  # nodes from which a neuron is reached
    for node in reversed(gm.graph.nodes):
        modules = (module_of(gm, user) for user in node.users)
        if any(isinstance(m, SpikingNeuron) for m in modules) or to_neurons & node.users.keys():
            to_neurons.add(node)
    found = {node: _accumulations(gm, node) for node in output_nodes(gm)}
    shared = set(to_neurons)
    while True:
        mixed = {node: parts for node, parts in found.items() if parts & shared}
        if not mixed:
            return found
        for node, parts in mixed.items():
            shared |= parts
            del found[node]


def _accumulations(gm: fx.GraphModule, output: fx.Node) -> set[fx.Node]:
    """The nodes behind which a running value that an output is computed from begins."""
    found, seen, front = set(), {output}, [output]
    while front:
        node = front.pop()
        if isinstance(module_of(gm, node), Accumulate):
            found.add(node)
        elif node.meta["domain"] is Domain.RUNNING:
            front += [n for n in node.all_input_nodes if n not in seen]
            seen.update(node.all_input_nodes)
    return found
