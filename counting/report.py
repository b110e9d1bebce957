"""The report of a converted network: what each of its operations reads and costs, in words.

It is the ledger's own account. Without a run it says what the graph alone can say; with the totals
of a run every row has its counts, which are the evaluator's.
"""

import dataclasses
import functools

from torch import fx

from ..graph.domains import VARYING
from ..neurons import NEURONS, Accumulate, Present, SpikingNeuron
from ..ops import Kind as Operations
from ..ops import module_of, operation_of
from .alphabet import ANALOG, Alphabet
from .flow import Flow, flows, updated_products
from .modules import declared
from .nodes import labels
from .provenance import Kind
from .settle import Totals, in_words

BY_VALUE = "spikes or analog, as their values turn out"
_WORDS = {"layer_norm": "layer norm", "channel_affine": "normalisation"}
_SHOWN = {"accumulate": "AC", "multiply-accumulate": "MAC", "other": "other"}


@dataclasses.dataclass(frozen=True)
class ReportRow:
    """One operation that does arithmetic.

    Attributes:
        name: of its module, or of its node.
        operation: kind of operation ("Conv2d", "Linear", "matmul", "neuron if", ...).
        input: "spikes {0,s}", "signed spikes", "multi-level spikes" or "analog".
        arithmetic: "accumulate", "multiply-accumulate" or "other".
        when: "every step" or "once an image".
        weights: it is a weight layer.
        count: accumulations, multiply-accumulates or other elementary operations per image, over all
            steps; None before a run.
    """

    name: str
    operation: str
    input: str
    arithmetic: str
    when: str
    weights: bool = False
    count: float | None = None


@dataclasses.dataclass(frozen=True)
class Report:
    """One row per operation, and what follows from them.

    Attributes:
        info: how the network was made.
        sites: number of its neuron layers.
        timesteps, totals: of the run that was counted; None without one.
    """

    rows: list[ReportRow]
    info: dict
    sites: int
    timesteps: int | None = None
    totals: Totals | None = None

    @property
    def counted(self) -> bool:
        return self.totals is not None

    @property
    def weight_rows(self) -> list[ReportRow]:
        return [row for row in self.rows if row.weights]

    @property
    def spike_driven_share(self) -> float | None:
        """Share of the weight layers' operations that spikes drive; None without a run."""
        return self.totals.spike_driven_share if self.totals else None

    @property
    def not_spiking(self) -> list[ReportRow]:
        """Operations on values that are not spikes."""
        return [
            r for r in self.rows if r.input == "analog" and not r.operation.startswith("neuron")
        ]

    @property
    def convergence(self) -> str:
        """In words: what the readout tends to."""
        if not NEURONS[self.info["neuron"]].coding.clips:
            return (
                "reaches its quantised (QCFS) network exactly, with the same frozen masks, after some "
                "steps"
            )
        if self.info["attention"] == "per-step":
            if any(r.operation in ("softmax", "matmul", "layer norm") for r in self.rows):
                return (
                    "does not converge: softmax, products and layer norms act on the spikes of "
                    "one step (as published for MST), and the mean of a product is not the "
                    "product of the means; attention='accumulated' converges"
                )
        return (
            "tends to the network with clipped ReLU (masked sites at their expectation) as T grows"
        )

    def as_dict(self) -> dict:
        return {
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "spike_driven_share": self.spike_driven_share,
            "timesteps": self.timesteps,
            "converges": self.convergence,
        }

    @property
    def summary(self) -> str:
        """A few lines."""
        weights, info = self.weight_rows, self.info
        kinds: dict[str, int] = {}
        for row in self.not_spiking:
            kinds[row.operation] = kinds.get(row.operation, 0) + 1
        lines = [
            f"{self.sites} activation sites became '{info['neuron']}' neurons; attention "
            f"{info['attention']}, readout {info['readout']}, mask {info['mask']:g} "
            f"({info['mask_scaling']})",
            f"{sum(r.arithmetic == 'accumulate' for r in weights)} of {len(weights)} weight layers see "
            f"spikes{self._shares()}",
            "on analog values: "
            + (", ".join(f"{n} x {k}" for k, n in sorted(kinds.items())) or "nothing"),
            f"readout {self.convergence}",
            *([info["calibration_text"]] if info.get("calibration_text") else []),
            *([info["fidelity_text"]] if info.get("fidelity_text") else []),
        ]
        return "\n".join(lines)

    def _shares(self) -> str:
        if self.totals is None:
            return ""
        share = self.spike_driven_share
        shown = "no weight layers" if share is None else f"{100 * share:.2f} %"
        return (
            f"; spike-driven share of weight-layer operations: {shown}; per image, T={self.timesteps}: "
            f"{self.totals.acs:,.0f} accumulations, {self.totals.macs:,.0f} multiply-accumulates"
        )

    def __str__(self) -> str:
        """The summary; after a run also a line for each operation."""
        if self.totals is None:
            return f"{self.summary}\nsnn.audit(images, timesteps=T) counts operations"
        head = ("operation", "kind", "reads", "", "when", "per image")
        table = [head] + [
            (r.name, r.operation, r.input, _SHOWN[r.arithmetic], r.when, f"{r.count:,.0f}")
            for r in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
        return "\n".join([self.summary, "", *lines])


def report_of(network, timesteps: int | None = None, totals: Totals | None = None) -> Report:
    """The report of a `SpikingNetwork`, with the counts of a run if there was one."""
    gm, rows = network.network, []
    found = flows(gm)
    increments = network.info.products == "increments"
    updated = updated_products(gm, found) if increments else set()
    for node, name in labels(gm).items():
        row = _row(gm, node, name, found, node in updated)
        if row is not None:
            rows += [row] if totals is None else _counted(row, totals)
    return Report(rows, dict(network.info), len(network.sites), timesteps, totals)


def _counted(row: ReportRow, totals: Totals) -> list[ReportRow]:
    """A row with its counts; a user's own module has one for each product in it, too."""
    rows = [
        dataclasses.replace(
            row,
            input=operation.words,
            arithmetic="accumulate" if operation.spiking else "multiply-accumulate",
            weights=operation.kind != "product",
            count=operation.acs if operation.spiking else operation.macs,
        )
        for operation in totals.operations
        if operation.name == row.name
    ]
    other = totals.other_at.get(row.name, 0)
    if not rows or (other and row.arithmetic == "other"):
        rows.append(dataclasses.replace(row, count=other))
    return rows


def _row(
    gm: fx.GraphModule, node: fx.Node, name: str, found: dict[fx.Node, Flow], updated: bool
) -> ReportRow | None:
    """The row of a node; None if it does no arithmetic on data.

    Args:
        updated: it is a product that is brought up to date by spikes.
    """
    if node.op == "placeholder":
        return None
    uses: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), uses.append)
    data = [found[n] for n in uses if found[n].kind is not Kind.WEIGHT]
    operation = None if found[node].kind is Kind.WEIGHT else _operation(gm, node)
    if operation is None:
        return None
    synapses = operation_of(gm, node).synapses
    weights = synapses and len(data) == 1
    kinds = {flow.kind for flow in data}
    read = [_alphabet(gm, flow, updated) for flow in data] or [ANALOG]
    if updated:
        words = f"{in_words(*read, False, lambda alphabet: alphabet.words)}, by increments"
    elif Kind.UNSURE in kinds:
        words = BY_VALUE
    elif synapses:
        words = in_words(*(read + [ANALOG])[:2], weights, lambda alphabet: alphabet.words)
    else:
        words = functools.reduce(Alphabet.join, read).words
    arithmetic = "accumulate" if updated else "other"
    if synapses and not updated:
        arithmetic = "accumulate" if Kind.SPIKES in kinds else "multiply-accumulate"
        if Kind.UNSURE in kinds and Kind.SPIKES not in kinds:
            arithmetic = BY_VALUE
    changes = node.meta["domain"] in VARYING and found[node].kind is not Kind.IMAGE
    when = "every step" if changes else "once an image"
    return ReportRow(name, operation, words, arithmetic, when, weights)


def _operation(gm: fx.GraphModule, node: fx.Node) -> str | None:
    """What a node does, in a word; None if it only moves or repeats values."""
    if node.op in ("placeholder", "output"):
        return None
    module, row = module_of(gm, node), operation_of(gm, node)
    if isinstance(module, SpikingNeuron):
        return f"neuron {module.kind}"
    if isinstance(module, Accumulate):
        return f"accumulate ({module.coding})"
    moves = row.cost is None and row.kind in (Operations.LINEAR, Operations.SIZE)
    if isinstance(module, Present) or (moves and not row.synapses):
        return None
    own = module is not None and (row.synapses or row.name == "leaf")
    return type(module).__name__ if own else _WORDS.get(row.name, row.name)


def _alphabet(gm: fx.GraphModule, flow: Flow, updated: bool) -> Alphabet:
    """What a value's neurons say that they send."""
    if flow.kind is not Kind.SPIKES and not (updated and flow.increments):
        return ANALOG
    sent = [declared(gm.get_submodule(name)) for name in sorted(flow.sources)]
    return functools.reduce(Alphabet.join, [dataclasses.replace(a, unit=None) for a in sent])
