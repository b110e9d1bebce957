"""From the network's outputs in each step to its estimate of every output after each step."""

import dataclasses

import torch
from torch import Tensor, fx, nn

from ..graph.domains import Domain
from ..graph.outputs import output_nodes, output_structure
from ..neurons import Accumulate, Coding, SpikingNeuron
from ..neurons.clock import for_sums
from ..ops import module_of
from ..support.structure import Structure


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


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What is known of the outputs of a spiking network from its graph.

    Attributes:
        structure: in which they are given.
        running: for each, whether it is a running value already.
        last: for each, the names of the modules that make running values for it alone; empty if
            there are none, or if neurons read one of them, too.
    """

    structure: Structure
    running: tuple[bool, ...]
    last: tuple[frozenset[str], ...]

    @classmethod
    def of(cls, gm: fx.GraphModule) -> "Outputs":
        nodes, found = output_nodes(gm), _last_accumulations(gm)
        return cls(
            output_structure(gm),
            tuple(node.meta["domain"] is Domain.RUNNING for node in nodes),
            tuple(frozenset(n.target for n in found.get(node, ())) for node in nodes),
        )


class Readouts:
    """The readouts of all outputs of a network, in its structure.

    What a network computes behind its last neurons from running values (a softmax, a tanh, an upper
    bound) acts on the readout of what it reads: on the mean of the steps that the readout takes, not
    on each step and not on other steps. Where neurons read such a running value, too, it stays the
    mean of all steps, and the readout of an output f(m(t)) is the mean of t f(m(t)) - (t-1) f(m(t-1)).

    Args:
        outputs: of the network.
        network: its graph, which holds the modules.
        readout: name of a readout of the coding.
    """

    def __init__(self, outputs: Outputs, network: nn.Module, coding: Coding, readout: str):
        self.structure, self.name = outputs.structure, coding.check_readout(readout)
        kinds = zip(outputs.running, outputs.last, strict=True)
        if not coding.clips or readout == "mean":  # every running value is a readout
            kinds = [(running, ()) for running in outputs.running]
        self.windowed, self.all = [], []
        for running, last in kinds:
            self.windowed += [network.get_submodule(path) for path in last]
            self.all.append(Readout(coding, running, readout, bool(last)))

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
        return self.structure.fill(readout.result() for readout in self.all)


def _last_accumulations(gm: fx.GraphModule) -> dict[fx.Node, set[fx.Node]]:
    """{output: nodes that make running values for it}, of outputs that share none with neurons."""
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
