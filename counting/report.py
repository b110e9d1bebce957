"""The report of a converted network: what each of its operations reads and costs, in words.

It is the ledger's own account. Before a run it says what the graph alone can say (`describe`); with
the totals of a run every row has its counts (`counted`), which are the evaluator's.
"""

import dataclasses
import functools

from torch import fx

from ..graph.domains import VARYING
from ..neurons import NEURONS
from .alphabet import ANALOG, Alphabet
from .flow import Flow, flows
from .modules import declared
from .nodes import labels
from .operation_facts import arithmetic_of
from .provenance import Kind
from .settle import Operation, Totals, in_words

BY_VALUE = "spikes or analog, as their values turn out"
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
            return "reaches the QCFS network exactly, with the same frozen masks, after some steps"
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
        ]
        return "\n".join(lines)

    def _shares(self) -> str:
        if self.totals is None:
            return "; snn.audit(images, timesteps=T) counts operations"
        share = self.spike_driven_share
        shown = "no weight layers" if share is None else f"{100 * share:.2f} %"
        return (
            f"; spike-driven share of weight-layer operations: {shown}; per image, T={self.timesteps}: "
            f"{self.totals.acs:,.0f} accumulations, {self.totals.macs:,.0f} multiply-accumulates"
        )

    def __str__(self) -> str:
        """The summary; after a run also a line for each operation."""
        if self.totals is None:
            return self.summary
        head = ("operation", "kind", "reads", "", "when", "per image")
        table = [head] + [
            (r.name, r.operation, r.input, _SHOWN[r.arithmetic], r.when, f"{r.count:,.0f}")
            for r in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
        return "\n".join([self.summary, "", *lines])


def describe(gm: fx.GraphModule) -> list[ReportRow]:
    """A row for each operation of a converted network, from its graph alone."""
    found = flows(gm)
    rows = (_row(gm, node, name, found) for node, name in labels(gm).items())
    return [row for row in rows if row is not None]


def counted(gm: fx.GraphModule, totals: Totals) -> list[ReportRow]:
    """The same with the counts of a run; a user's own module has a row for each product in it."""
    found, rows = flows(gm), []
    for node, name in labels(gm).items():
        row = _row(gm, node, name, found)
        inside = [_synaptic(row, op) for op in totals.operations if op.name == name]
        other = totals.other_at.get(name, 0)
        rows += inside
        if row is not None and (not inside or (other and row.arithmetic == "other")):
            rows.append(dataclasses.replace(row, count=other))
    return rows


def _synaptic(row: ReportRow, operation: Operation) -> ReportRow:
    return dataclasses.replace(
        row,
        input=operation.words,
        arithmetic="accumulate" if operation.spiking else "multiply-accumulate",
        when="once an image" if operation.once else "every step",
        weights=operation.kind != "product",
        count=operation.acs if operation.spiking else operation.macs,
    )


def _row(
    gm: fx.GraphModule, node: fx.Node, name: str, found: dict[fx.Node, Flow]
) -> ReportRow | None:
    """The row of a node; None if it does no arithmetic on data."""
    uses: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), uses.append)
    data = [found[n] for n in uses if found[n].kind is not Kind.WEIGHT]
    what = arithmetic_of(gm, node) if data and found[node].kind is not Kind.WEIGHT else None
    if what is None:
        return None
    operation, synapses = what
    kinds = {flow.kind for flow in data}
    read = [_alphabet(gm, flow) for flow in data]
    weights = synapses and len(data) == 1
    if Kind.UNSURE in kinds:
        words = BY_VALUE
    elif synapses:
        words = in_words(*(read + [ANALOG])[:2], weights, lambda alphabet: alphabet.words)
    else:
        words = functools.reduce(Alphabet.join, read).words
    arithmetic = "other"
    if synapses:
        arithmetic = "accumulate" if Kind.SPIKES in kinds else "multiply-accumulate"
        if kinds & {Kind.SPIKES, Kind.UNSURE} == {Kind.UNSURE}:
            arithmetic = BY_VALUE
    changes = node.meta["domain"] in VARYING and found[node].kind is not Kind.IMAGE
    when = "every step" if changes else "once an image"
    return ReportRow(name, operation, words, arithmetic, when, weights)


def _alphabet(gm: fx.GraphModule, flow: Flow) -> Alphabet:
    """What a value's neurons say that they send."""
    if flow.kind is not Kind.SPIKES:
        return ANALOG
    sent = [declared(gm.get_submodule(name)) for name in sorted(flow.sources)]
    return functools.reduce(Alphabet.join, [dataclasses.replace(a, unit=None) for a in sent])
