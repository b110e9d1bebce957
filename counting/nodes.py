"""Counts a converted network at the nodes of its graph, where it is known what flows.

Weight layers, neurons and masks count as a whole. What else does arithmetic, a user's own modules
among it, is looked into by the dispatch mode while that node runs, and at no other time.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator

from torch import Tensor, fx, nn

from ..graph.errors import module_path
from ..neurons import Accumulate, Present
from ..ops import Spikes, operation_of
from ..support.structure import inputs_of
from .contractions import gate
from .counter import OperationCounter, tensors_among
from .flow import flows, updated_products
from .modules import Role, role
from .nonzero import count_nonzero
from .provenance import Kind, Tag, get_tag, set_tag


def labels(gm: fx.GraphModule) -> dict[fx.Node, str]:
    """What reports call each node: its module, or the module around it and its own name."""
    found: dict[fx.Node, str] = {}
    taken = set()
    for node in gm.graph.nodes:
        around = module_path(node)
        name = str(node.target)
        if node.op != "call_module":
            name = f"{around} ({node.name})" if around else node.name
        elif name in taken:
            name = f"{name} ({node.name})"
        found[node] = name
        if node.op != "placeholder":  # which has no row
            taken.add(name)
    return found


class NodeCounter(OperationCounter):
    """Counts the operations of a converted network; used like `OperationCounter`.

    Args:
        network: a `SpikingNetwork`.
        twin: count it as its own quantised twin, with the nonzero activations of every layer; its
            neurons must be ideal ones.
    """

    def __init__(self, network, twin: bool = False):
        gm = network.network
        super().__init__(gm, not twin, "activations" if twin else None)
        self.network = network
        self.labels = labels(gm)
        self._flows = flows(gm)
        increments = network.info.products == "increments"
        self._updated = updated_products(gm, self._flows) if increments else set()
        self._gates = {n for n in self._updated if not operation_of(gm, n).synapses}
        self._roles: dict[fx.Node, Role] = {}
        self._closed = {n for n, flow in self._flows.items() if flow.kind is Kind.WEIGHT}
        self._closed |= self._gates
        self._image = False  # the node that runs depends on the image alone
        self._known: dict[tuple, list[tuple[str, int]]] = {}  # what a node does on a chunk
        for node in gm.graph.nodes:
            module = gm.get_submodule(node.target) if node.op == "call_module" else None
            what = role(module) if module is not None else None
            if what is not None:
                self._roles[node] = Role.ACTIVATION if twin and what is Role.NEURON else what
            if what is not None or isinstance(module, (Accumulate, Present)):
                self._closed.add(node)

    def _watched(self) -> Iterator[tuple[str | None, nn.Module]]:
        """What lies inside the modules that the nodes call: there the dispatch mode looks."""
        calls = [n for n in self._flows if n.op == "call_module" and n not in self._closed]
        outer = dict.fromkeys(self.model.get_submodule(n.target) for n in calls)
        inner = {part: None for module in outer for part in module.modules() if part not in outer}
        return ((None, module) for module in inner)

    @contextlib.contextmanager
    def forward(self, images, steps: int | None = None) -> Iterator:
        alias = self._begin(images, steps)
        self._size = tuple(x.shape[1:] for x in inputs_of(images))
        for number, x in enumerate(inputs_of(alias), 1):
            set_tag(x, Tag(Kind.IMAGE, self._run, key=number))
        self._silent = 1
        with self.network.observe(self._node_done, self._node_begins):
            try:
                yield alias
            finally:
                if self._entered:  # a node has failed
                    self._pause()

    def _node_begins(self, node: fx.Node) -> None:
        if node in self._closed or self._chunk(node) in self._known or self._again(node):
            return
        module = self.model.get_submodule(node.target) if node.op == "call_module" else None
        self._path = [(self.labels[node], isinstance(module, nn.Linear))]
        self._book.noted, self._book.number = [], 0
        self._image = self._flows[node].kind is Kind.IMAGE
        self._book.updated = node in self._updated
        self._resume()

    def _new_tag(self, name, args, kwargs, inputs, out) -> Tag | None:
        """What is made of the image alone is image, whatever its values."""
        tag = super()._new_tag(name, args, kwargs, inputs, out)
        if self._image and tag is not None and tag.kind not in (Kind.IMAGE, Kind.WEIGHT):
            copies = max(given.copies for _, given in inputs if given is not None)
            key = self._fingerprint(name, args, kwargs)
            tag = Tag(Kind.IMAGE, self._run, key=key, copies=copies)
        return tag

    def _again(self, node: fx.Node) -> bool:
        """Whether the node does what it has done in the first chunk."""
        return self._flows[node].kind is Kind.IMAGE and self.network.clock.start > 0

    def _chunk(self, node: fx.Node) -> tuple:
        clock = self.network.clock
        return node, clock.steps, clock.batch, self._size, clock.start == 0

    def _node_done(self, node, module, args, kwargs, output, clock) -> None:
        flow, name, chunk = self._flows[node], self.labels[node], self._chunk(node)
        if flow.kind is Kind.WEIGHT and not isinstance(output, Tensor):
            return
        given = tensors_among((*args, *kwargs.values()))
        start = time.perf_counter()
        if self._again(node):
            pass
        elif node in self._roles:
            self._book.number = 0
            self._whole(name, self._roles[node], module, given[0], output)
        elif isinstance(module, Accumulate):
            self._book.count(name, "accumulation", output.numel())
        elif node in self._gates:
            self._gate(name, given, output)
        elif chunk in self._known:
            for kind, operations in self._known[chunk]:
                self._book.count(name, kind, operations)
        elif node not in self._closed:
            self._pause()
            self._book.updated = False
            noted, self._book.noted = self._book.noted, None
            simple = module is None or next(module.children(), None) is None
            if noted is not None and simple and flow.kind is not Kind.IMAGE:
                self._known[chunk] = noted  # sizes decide, not values: no need to look again
        self._mark_node(node, module, given, output)
        self.seconds += time.perf_counter() - start

    def _gate(self, name: str, given: list[Tensor], output: Tensor) -> None:
        self._book.updated, self._book.number = True, 0
        tags = [self._tag(x) for x in given]
        self._book.contract("mul", name, gate(*given, output), tags, 1, False)
        self._book.updated = False

    def _mark_node(self, node: fx.Node, module, given: list[Tensor], output) -> None:
        """Mark what a node gives, where the mode has not done so with more to say."""
        flow = self._flows[node]
        if isinstance(module, Present):
            tag = get_tag(given[0], self._run)
            copies = tag.copies * self.network.clock.steps
            set_tag(output, dataclasses.replace(tag, copies=copies))
        elif self._again(node):
            set_tag(output, Tag(Kind.IMAGE, self._run, key=hash(node)))
        if flow.kind is Kind.IMAGE or self._roles.get(node) is Role.NEURON:
            return
        for x in tensors_among(output if isinstance(output, (tuple, list)) else (output,)):
            if id(x) in self._weights or any(x is one for one in given):
                continue
            tag = Tag(flow.kind, self._run, flow.sources, key=hash(node), unit=flow.unit)
            held = get_tag(given[0], self._run) if flow.effect is Spikes.SAME else None
            count = None if held is None else held.nonzero_count(given[0])
            if count is not None:
                tag.keep(x, count)
            if flow.increments:
                spikes = get_tag(given[0], self._run)
                nonzero = None if spikes is None else spikes.nonzero_count(given[0])
                nonzero = count_nonzero(given[0]) if nonzero is None else nonzero
                tag.increments = nonzero, x.numel()
            set_tag(x, tag)
