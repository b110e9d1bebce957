"""Pass: every value gets a time domain, and what reads another domain gets a converter.

Linear layers work on the stream of each step, so weights see spikes. Non-linear operations and
products of two streams work on running values (the mean of a product is not the product of the
means), which `Accumulate` makes of streams. What depends on the image alone is computed once and
presented in every step (rate coding) or in the first one (cumulative coding, where offsets act in
the first step alone, too).
"""

import operator

import torch
from torch import fx, nn

from ...graph.batch_axis import batch_axes, batch_not_first
from ...graph.domains import VARYING, Domain
from ...graph.errors import Offence, UnconvertibleError
from ...graph.nodes import operands, takes_one_of_several
from ...graph.surgery import add_buffer, add_module, finish
from ...neurons import Accumulate, ChannelAffine, Coding, Offset, Present
from ...ops import Kind, Operation, module_of, operation_of

# What acts on the spikes of one step in networks as published for MST, by kind of cost.
_PER_STEP = ("softmax", "normalisation")


def assign_domains(gm: fx.GraphModule, coding: Coding, per_step_attention: bool, leaves=()) -> int:
    """Set `node.meta["domain"]` everywhere and insert Accumulate, Present and Offset modules.

    Args:
        coding: of the neurons.
        per_step_attention: softmax, products and norms act on the spikes of one step, as published
            for MST; the mean of their results is not their result on the means.
        leaves: names of the user's leaf modules.
    """
    work = _Assignment(gm, coding, per_step_attention, leaves)
    for node in list(gm.graph.nodes):
        work.assign(node)
    if work.refused:
        raise UnconvertibleError(list(work.refused.values()))
    return finish(gm, work.inserted)


class _Assignment:
    def __init__(self, gm, coding, per_step, leaves):
        self.gm, self.coding, self.per_step, self.leaves = gm, coding, per_step, leaves
        self.made: dict[tuple[fx.Node, Domain], fx.Node] = {}
        self.inserted = 0
        self.axes = batch_axes(gm)
        self.refused: dict[fx.Node, Offence] = {}

    # -- the rules ---------------------------------------------------------------------------

    def assign(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            node.meta["domain"] = Domain.CONSTANT
        elif node.op == "get_attr":
            node.meta["domain"] = Domain.PARAMETER
        elif node.op == "output":
            node.meta["domain"] = Domain.SIZE
            for source in node.all_input_nodes:
                if source.meta["domain"] not in VARYING:
                    node.replace_input_with(source, self.coerce(source, Domain.RUNNING))
        else:
            self.assign_call(node)

    def assign_call(self, node: fx.Node) -> None:
        row = operation_of(self.gm, node, self.leaves)
        domains = {n: n.meta["domain"] for n in node.all_input_nodes}
        present = set(domains.values())
        varying = [n for n, d in domains.items() if d in VARYING]
        if self.reads_size(node, row) or (present == {Domain.SIZE} and row.kind is not Kind.CREATE):
            node.meta["domain"] = Domain.SIZE
            node.meta["timed"] = bool(varying) or any(n.meta.get("timed") for n in domains)
            if node.meta["timed"]:
                self.twin_sizes(node)
        elif row.kind is Kind.CREATE:  # of the shape of its input, whatever the values there
            node.meta["domain"] = (
                Domain.RUNNING
                if varying or Domain.SIZE in present
                else (Domain.CONSTANT if Domain.CONSTANT in present else Domain.PARAMETER)
            )
            self.twin_sizes(node)
        elif row.kind is Kind.SITE:
            self.site(node)
        elif not varying and Domain.CONSTANT in present:
            node.meta["domain"] = Domain.CONSTANT
            if any(n.meta.get("timed") for n in node.all_input_nodes):
                self.read_all(node, Domain.RUNNING)
        elif not varying:  # parameters, perhaps of a size that the image gives
            node.meta["domain"] = Domain.RUNNING if Domain.SIZE in present else Domain.PARAMETER
            self.twin_sizes(node)
        elif self.on_stream(node, row, domains):
            node.meta["domain"] = Domain.STREAM
            self.read_stream(node, row)
        else:
            self.read_all(node, Domain.RUNNING)

    def reads_size(self, node: fx.Node, row: Operation) -> bool:
        return row.kind is Kind.SIZE and not takes_one_of_several(self.gm, node)

    def on_stream(self, node: fx.Node, row: Operation, domains: dict) -> bool:
        """Whether a node with varying inputs may work on the values of single steps."""
        if Domain.RUNNING in domains.values():
            return False
        varying = [n for n, d in domains.items() if d is Domain.STREAM]
        others = [n for n in varying if n not in operands(node, row.values)]
        if row.kind in (Kind.LINEAR, Kind.PRODUCT) and others:
            return self.per_step and row.kind is Kind.PRODUCT
        if row.kind is Kind.PRODUCT:
            uses = [n for n in operands(node, row.values, unique=False) if n in varying]
            return self.per_step or len(uses) < 2
        if row.kind not in (Kind.LINEAR, Kind.ADDITIVE, Kind.MASK, Kind.TIMED):
            published = row.synapses or (row.cost is not None and row.cost.kind in _PER_STEP)
            return self.per_step and published
        if row.writes is not None and not _has_no_offset(node, *row.writes):
            return False
        parameters = [n for n, d in domains.items() if d is Domain.PARAMETER]
        if self.coding.acts_once and parameters and row.kind is not Kind.ADDITIVE:
            return (
                not row.synapses
                and not set(parameters) & set(operands(node, row.values))
                or (row.kind is Kind.PRODUCT)
            )
        return True

    def site(self, node: fx.Node) -> None:
        source = node.all_input_nodes[0]
        module = module_of(self.gm, node)
        if source.meta["domain"] not in VARYING:
            self.read_all(node, Domain.STREAM)
            source = node.all_input_nodes[0]
        module.running_input = source.meta["domain"] is Domain.RUNNING
        node.meta["domain"] = Domain.STREAM

    # -- what a node reads -------------------------------------------------------------------

    def read_all(self, node: fx.Node, domain: Domain) -> None:
        node.meta["domain"] = domain
        for source in list(node.all_input_nodes):
            node.replace_input_with(source, self.coerce(source, domain))

    def read_stream(self, node: fx.Node, row: Operation) -> None:
        """Values are read as streams; factors, indices and kernels as they are in every step."""
        kind, offset = row.kind, None
        together = () if kind is Kind.PRODUCT else operands(node, row.values)
        for source in list(node.all_input_nodes):
            domain = source.meta["domain"]
            if domain is Domain.CONSTANT and source not in together:
                node.replace_input_with(source, self.coerce(source, Domain.RUNNING))
            elif domain in (Domain.PARAMETER, Domain.SIZE) and kind is Kind.ADDITIVE:
                offset = self.coerce(source, Domain.STREAM)
                node.replace_input_with(source, offset)
            else:
                node.replace_input_with(source, self.coerce(source, Domain.STREAM))
        if self.coding.acts_once:
            self.offset_once(node, kind, offset)

    def offset_once(self, node: fx.Node, kind: Kind, offset: fx.Node | None) -> None:
        """In cumulative coding a constant operand and a bias act in the first step alone."""
        module = module_of(self.gm, node)
        if kind is Kind.ADDITIVE:
            self.additive_once(node, offset)
        elif isinstance(module, ChannelAffine) and module.offset is not None:
            self.bias_once(node, module.offset, module.axis)
            module.offset = None
        elif getattr(module, "bias", None) is not None and kind is Kind.LINEAR:
            self.bias_once(node, module.bias, -1 if isinstance(module, nn.Linear) else 1)
            module.bias = None

    def additive_once(self, node: fx.Node, offset: fx.Node | None) -> None:
        first, second = node.args[0], node.args[1] if len(node.args) > 1 else node.kwargs["other"]
        numbers = [v for v in (first, second) if not isinstance(v, fx.Node)]
        constant = offset if offset is not None else (numbers[0] if numbers else None)
        if constant is None:
            return
        self.needs_batch_first(node)
        subtracts = operation_of(self.gm, node).name == "sub"
        stream = second if constant is first else first
        graph = self.gm.graph
        with graph.inserting_before(node):
            if subtracts and constant is second:
                constant = (
                    -constant
                    if not isinstance(constant, fx.Node)
                    else self.new(graph.call_function(operator.neg, (constant,)), Domain.PARAMETER)
                )
            elif subtracts:
                stream = self.new(graph.call_function(operator.neg, (stream,)), Domain.STREAM)
        node.op, node.target = "call_module", add_module(self.gm, f"offsets.{node.name}", Offset())
        node.args, node.kwargs = (stream, constant), {}
        self.inserted += 1

    def needs_batch_first(self, node: fx.Node) -> None:
        """State over time is kept for each image: the batch must be the first axis."""
        axis = self.axes.get(node)
        if axis:
            self.refused[node] = batch_not_first(self.gm, node, axis)

    def bias_once(self, node: fx.Node, bias: torch.Tensor, axis: int) -> None:
        self.needs_batch_first(node)
        graph = self.gm.graph
        name = add_module(self.gm, f"offsets.{node.name}", Offset(axis))
        with graph.inserting_after(node):
            constant = self.new(
                graph.get_attr(add_buffer(self.gm, f"offset_{node.name}", bias.detach().clone())),
                Domain.PARAMETER,
            )
        with graph.inserting_after(constant):
            offset = self.new(graph.call_module(name, (node, constant)), Domain.STREAM)
        offset.meta.update({k: v for k, v in node.meta.items() if k != "domain"})
        node.meta.pop("value_of", None)
        node.replace_all_uses_with(
            offset, delete_user_cb=lambda user: user is not offset, propagate_meta=False
        )

    # -- converters --------------------------------------------------------------------------

    def new(self, node: fx.Node, domain: Domain) -> fx.Node:
        node.meta["domain"] = domain
        for source in node.all_input_nodes:
            _same_place(node, source)
        self.inserted += 1
        return node

    def coerce(self, source: fx.Node, domain: Domain) -> fx.Node:
        """`source` as a node of another domain, made once and shared."""
        have = source.meta["domain"]
        if have is Domain.SIZE:
            return (
                source if source.meta.get("timed") or domain not in VARYING else self.twin(source)
            )
        if have is domain or have is Domain.PARAMETER or have is Domain.RUNNING:
            return source
        key = (source, domain)
        if key not in self.made:
            self.needs_batch_first(source)
            if have is Domain.CONSTANT:
                once = self.coding.acts_once and domain is Domain.STREAM
                module, label = Present(once), "once" if once else "each_step"
            else:
                module, label = Accumulate(self.coding.name), "running"
            name = add_module(self.gm, f"{label}.{source.name}", module)
            with self.gm.graph.inserting_after(source):
                self.made[key] = self.new(self.gm.graph.call_module(name, (source,)), domain)
            self.made[key].meta["shape"] = source.meta.get("shape")
        return self.made[key]

    def twin_sizes(self, node: fx.Node) -> None:
        for source in list(node.all_input_nodes):
            if source.meta["domain"] is Domain.SIZE and not source.meta.get("timed"):
                node.replace_input_with(source, self.twin(source))

    def twin(self, size: fx.Node) -> fx.Node:
        """A size of the image batch [B, ...] as the size of the chunk [K * B, ...]."""
        key = (size, Domain.SIZE)
        if key not in self.made:
            with self.gm.graph.inserting_after(size):
                copy = self.gm.graph.node_copy(size)
            copy.meta = {**size.meta, "timed": True}
            for source in list(copy.all_input_nodes):
                copy.replace_input_with(source, self.coerce(source, Domain.RUNNING))
            self.inserted += 1
            self.made[key] = copy
        return self.made[key]


def _same_place(node: fx.Node, source: fx.Node) -> None:
    """What is inserted after a node lies where that lies in the user's model."""
    for key in ("module_path", "source"):
        if key in source.meta:
            node.meta.setdefault(key, source.meta[key])


def _has_no_offset(node: fx.Node, position: int, key: str) -> bool:
    """Whether what a node writes into the result is linear: 0, or a value of the same image."""
    value = node.args[position] if len(node.args) > position else node.kwargs.get(key)
    if isinstance(value, fx.Node):
        return value.meta["domain"] in (Domain.STREAM, Domain.CONSTANT)
    return not isinstance(value, torch.Tensor) and not value
