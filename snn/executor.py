"""Runs the graph of a spiking network: what depends on the image alone once, the rest in chunks."""

import contextlib
from collections.abc import Callable

import torch
from torch import fx

from ..graph.domains import VARYING
from ..graph.outputs import output_nodes
from ..graph.surgery import attribute
from ..neurons import Clock

Observer = Callable[[fx.Node, torch.nn.Module | None, tuple, dict, object, Clock], None]
Before = Callable[[fx.Node], None]


class Executor:
    """Executes a graph whose nodes carry `meta["domain"]`.

    Observers are called after each node with (node, module or None, args, kwargs, output, clock):
    once per call for what depends on the image alone, once per chunk for the rest. They nest: the one
    that came last is the first that sees a node done.
    """

    def __init__(self, graph_module: fx.GraphModule):
        self.graph_module = graph_module
        self.observers: list[tuple[Observer, Before | None]] = []
        nodes = list(graph_module.graph.nodes)
        self.timed = [n for n in nodes if n.meta["domain"] in VARYING or n.meta.get("timed")]
        timed = set(self.timed)
        self.fixed = [n for n in nodes if n not in timed and n.op != "output"]
        self.inputs = [n for n in nodes if n.op == "placeholder"]
        self.outputs = output_nodes(graph_module)
        self.last_use: dict[fx.Node, list[fx.Node]] = {}
        seen: set[fx.Node] = set()
        for node in reversed(self.timed):
            for source in node.all_input_nodes:
                if source in timed and source not in seen and source not in self.outputs:
                    seen.add(source)
                    self.last_use.setdefault(node, []).append(source)

    @contextlib.contextmanager
    def observe(self, observer: Observer, before: Before | None = None):
        """Call `observer` for every node that is executed inside the `with` block.

        Args:
            before: is called with each node in front of it.
        """
        entry = (observer, before)
        self.observers.append(entry)
        try:
            yield
        finally:
            self.observers.remove(entry)

    def prepare(self, inputs: tuple[torch.Tensor, ...], clock: Clock) -> dict[fx.Node, object]:
        """Values of all nodes that do not change over time."""
        values: dict[fx.Node, object] = dict(zip(self.inputs, inputs, strict=True))
        for node in self.fixed:
            if node not in values:
                values[node] = self._run(node, values, clock)
        return values

    def chunk(self, fixed: dict[fx.Node, object], clock: Clock) -> tuple[list[torch.Tensor], int]:
        """Simulate `clock.steps` steps; returns the outputs [K * B, ...] and the largest tensor."""
        values, largest = dict(fixed), 0
        for node in self.timed:
            value = self._run(node, values, clock)
            values[node] = value
            if isinstance(value, torch.Tensor):
                largest = max(largest, value.numel())
            for done in self.last_use.get(node, ()):
                del values[done]
        return [values[node] for node in self.outputs], largest

    def _run(self, node: fx.Node, values: dict, clock: Clock):
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        module = None
        for _, before in self.observers:
            if before is not None:
                before(node)
        if node.op == "call_module":
            module = self.graph_module.get_submodule(node.target)
            output = module(*args, **kwargs)
        elif node.op == "call_function":
            output = node.target(*args, **kwargs)
        elif node.op == "call_method":
            output = getattr(args[0], node.target)(*args[1:], **kwargs)
        else:
            output = attribute(self.graph_module, node.target)
        for observer, _ in reversed(self.observers):
            observer(node, module, args, kwargs, output, clock)
        return output
