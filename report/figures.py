"""The report's figures, each from plain records; one that has nothing to show is None."""

from collections.abc import Mapping, Sequence

from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from .drawing import COLORS, MARKERS, Drawing, legend_below, new_figure, style
from .tables import energy, number


def _looks(records: Sequence[dict]) -> list[dict]:
    """Colour and marker of each record; an ANN and the (first) spiking network of its run match."""
    keys, taken = [], set()
    for record in records:
        key = record["name"] if record["run"] is None else record["run"]
        role = (key, record["kind"] == "ann")
        keys.append((key, len(keys)) if role in taken else key)
        taken.add(role)
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    return [
        {"color": COLORS[places[key] % len(COLORS)], "marker": MARKERS[places[key] % len(MARKERS)]}
        for key in keys
    ]


def accuracy_over_time(records: Sequence[dict]) -> Drawing | None:
    """Top-1 after every step (log axis), ANNs as horizontal lines."""
    records = [r for r in records if r["top1"] is not None]
    snns = [r for r in records if r["top1_by_timestep"]]
    if not snns:
        return None
    figure, axes = new_figure(
        "Accuracy against time steps", "time steps T (log scale)", "top-1 accuracy, %"
    )
    last = max(len(r["top1_by_timestep"]) for r in snns)
    with style():
        for look, record in zip(_looks(records), records, strict=True):
            curve = record["top1_by_timestep"]
            if curve:
                axes.plot(
                    range(1, len(curve) + 1),
                    curve,
                    label=record["name"],
                    **look,
                    markevery=_powers(len(curve)),
                )
            elif record["kind"] == "ann":
                axes.axhline(
                    record["top1"],
                    color=look["color"],
                    linestyle="--",
                    linewidth=1.2,
                    label=f"{record['name']} ({record['top1']:.2f} %)",
                )
        _time_axis(axes, last)
        legend_below(figure, *axes.get_legend_handles_labels())
    parts = [f"{r['name']} ends at {r['top1']:.2f} %" for r in records]
    return Drawing(
        "accuracy_over_time",
        "Accuracy against time steps",
        "Line chart of top-1 accuracy after each time step: " + ", ".join(parts) + ".",
        figure,
    )


def _powers(length: int) -> list[int]:
    """Indices of T = 1, 2, 4, ... and of the last step."""
    marks = [2**i - 1 for i in range(length.bit_length()) if 2**i <= length]
    return marks if marks[-1] == length - 1 else [*marks, length - 1]


def _time_axis(axes, last: int) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(0.9, max(2, last) * 1.1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda t, _: f"{t:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def accuracy_over_energy(records: Sequence[dict]) -> Drawing | None:
    """Top-1 against energy; the marker grows with the number of parameters."""
    records = [r for r in records if r["top1"] is not None]
    pairs = zip(_looks(records), records, strict=True)
    shown = [(look, r) for look, r in pairs if r["energy_millijoules"] and r["parameters"]]
    if len(shown) < 2:
        return None
    model = shown[0][1]["energy_model"]
    figure, axes = new_figure(
        "Accuracy against energy",
        f"energy per image, mJ ({model}, log scale)",
        "top-1 accuracy, %",
    )
    largest = max(r["parameters"] for _, r in shown)
    with style():
        for look, record in shown:
            size = 30 + 170 * record["parameters"] / largest
            axes.scatter(
                record["energy_millijoules"],
                record["top1"],
                s=size,
                alpha=0.85,
                label=f"{record['name']} ({number(record['parameters'])})",
                marker=look["marker"],
                edgecolors=look["color"],
                facecolors="none" if record["kind"] == "ann" else look["color"],
            )
        axes.set_xscale("log")
        axes.margins(x=0.2, y=0.25)
        legend_below(
            figure, *axes.get_legend_handles_labels(), title="model (parameters); open: ANN"
        )
        for handle in figure.legends[0].legend_handles:
            handle.set_sizes([30])
    parts = [
        f"{r['name']} {r['top1']:.2f} % at {energy(r['energy_millijoules'])}" for _, r in shown
    ]
    return Drawing(
        "accuracy_over_energy",
        "Accuracy against energy",
        "Scatter chart, larger marks for more parameters: " + ", ".join(parts) + ".",
        figure,
    )


def firing_rates(records: Sequence[dict]) -> Drawing | None:
    """Firing rate of every neuron layer, in the order of the data flow."""
    pairs = zip(_looks(records), records, strict=True)
    shown = [(look, r) for look, r in pairs if r["firing_rate"]]
    if not shown:
        return None
    figure, axes = new_figure(
        "Firing rate of each layer",
        "neuron layer, in data-flow order",
        "spikes a neuron and step, %",
    )
    with style():
        for look, record in shown:
            rates = [100 * rate for rate in record["firing_rate"].values()]
            axes.plot(
                range(1, len(rates) + 1),
                rates,
                label=record["name"],
                linewidth=1.0,
                markersize=3.5,
                **look,
            )
        axes.set_ylim(bottom=0)
        legend_below(figure, *axes.get_legend_handles_labels())
    parts = [
        f"{r['name']} between {100 * min(r['firing_rate'].values()):.2g} and "
        f"{100 * max(r['firing_rate'].values()):.2g} %"
        for _, r in shown
    ]
    return Drawing(
        "firing_rates",
        "Firing rate of each layer",
        "Line chart over the layers from input to output: " + ", ".join(parts) + ".",
        figure,
    )


def synaptic_operations(records: Sequence[dict]) -> Drawing | None:
    """Accumulations and multiply-accumulates of every operation."""
    pairs = zip(_looks(records), records, strict=True)
    shown = [(look, r) for look, r in pairs if r["kind"] != "ann" and r.get("layers")]
    if not shown:
        return None
    figure, axes = new_figure(
        "Operations of each layer",
        "operation, in data-flow order",
        "operations per image (log scale)\nfilled: ACs, open: MACs",
    )
    with style():
        for look, record in shown:
            for key, filled in (("acs", True), ("macs", False)):
                points = [
                    (n + 1, layer[key]) for n, layer in enumerate(record["layers"]) if layer[key]
                ]
                if points:
                    axes.plot(
                        *zip(*points, strict=True),
                        linestyle="none",
                        markersize=4.5,
                        marker=look["marker"],
                        color=look["color"],
                        markerfacecolor=look["color"] if filled else "none",
                        label=record["name"] if filled else None,
                    )
        axes.set_yscale("log")
        legend_below(figure, *axes.get_legend_handles_labels())
    parts = [
        f"{r['name']} {number(r['acs'])} accumulations and {number(r['macs'])} "
        "multiply-accumulates in all"
        for _, r in shown
    ]
    return Drawing(
        "operations",
        "Operations of each layer",
        "Marks for each operation, filled for accumulations, open for "
        "multiply-accumulates: " + ", ".join(parts) + ".",
        figure,
    )


def energy_to_quantised(records: Sequence[dict]) -> Drawing | None:
    """Energy over that of the quantised twin, under every energy model."""
    shown = [
        (look, r)
        for look, r in zip(_looks(records), records, strict=True)
        if any(e["to_quantised"] for e in (r.get("energies") or {}).values())
    ]
    if not shown:
        return None
    names = list(dict.fromkeys(m for _, r in shown for m in r["energies"]))
    figure, axes = new_figure(
        "Energy over that of the quantised network",
        "energy model",
        "ratio (log scale); below 1 the SNN wins",
    )
    width = 0.8 / len(shown)
    with style():
        for place, (look, record) in enumerate(shown):
            heights = [(record["energies"].get(m) or {}).get("to_quantised") for m in names]
            xs = [n - 0.4 + (place + 0.5) * width for n in range(len(names))]
            points = [(x, h) for x, h in zip(xs, heights, strict=True) if h]
            axes.vlines(
                [x for x, _ in points],
                1,
                [h for _, h in points],
                linewidth=2,
                color=look["color"],
            )
            axes.plot(*zip(*points, strict=True), linestyle="none", label=record["name"], **look)
        axes.set_yscale("log")
        axes.axhline(1, linewidth=1.2, linestyle="--", color=axes.spines["left"].get_edgecolor())
        axes.set_xticks(range(len(names)), names)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(axis="x", visible=False)
        legend_below(figure, *axes.get_legend_handles_labels())
    parts = []
    for _, record in shown:
        told = [
            f"{e['to_quantised']:.3g} under {m}"
            for m, e in record["energies"].items()
            if e["to_quantised"]
        ]
        parts.append(f"{record['name']}: {', '.join(told)}")
    return Drawing(
        "energy_to_quantised",
        "Energy over that of the quantised network",
        "Ratio for each energy model; 1 is the network's own quantised twin. "
        + "; ".join(parts)
        + ".",
        figure,
    )


def training_curves(metrics: Mapping[str, Sequence[dict]]) -> Drawing | None:
    """Top-1 over the epochs of each run, from the rows of metrics.jsonl."""
    curves = []
    for run, rows in metrics.items():
        for split in dict.fromkeys(row.get("split") for row in rows):
            points = [
                (row["epoch"], row["top1"])
                for row in rows
                if row.get("split") == split and row.get("top1") is not None
            ]
            if points:
                curves.append((run, split, points))
    if max((len(points) for _, _, points in curves), default=0) < 2:
        return None
    figure, axes = new_figure("Training", "epoch", "top-1 accuracy, %")
    runs = list(dict.fromkeys(run for run, _, _ in curves))
    splits = list(dict.fromkeys(split for _, split, _ in curves))
    lines = ("-", "--", ":", "-.")
    with style():
        for run, split, points in curves:
            axes.plot(
                *zip(*points, strict=True),
                label=f"{run}, {split}",
                color=COLORS[runs.index(run) % len(COLORS)],
                linestyle=lines[splits.index(split) % len(lines)],
                marker=MARKERS[runs.index(run) % len(MARKERS)],
                markersize=3,
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend_below(figure, *axes.get_legend_handles_labels())
    parts = [
        f"{run} ends at {points[-1][1]:.2f} % on the {split} split" for run, split, points in curves
    ]
    return Drawing(
        "training",
        "Training",
        "Line chart of accuracy over epochs: " + ", ".join(parts) + ".",
        figure,
    )


def layer_errors(errors: Mapping[str, Sequence[dict]]) -> Drawing | None:
    """Relative error of each layer of a conversion, from rows {"name", "error"}."""
    shown = {name: rows for name, rows in errors.items() if rows}
    if not shown:
        return None
    figure, axes = new_figure(
        "Error of each layer after conversion",
        "layer, in data-flow order",
        "relative error against the ANN",
    )
    with style():
        for i, (name, rows) in enumerate(shown.items()):
            values = [row["error"] for row in rows]
            look = {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i % len(MARKERS)]}
            axes.plot(range(1, len(values) + 1), values, label=name, **look, linewidth=1.0)
        axes.set_ylim(bottom=0)
        legend_below(figure, *axes.get_legend_handles_labels())
    parts = [
        f"{name} from {rows[0]['error']:.3g} to {rows[-1]['error']:.3g}"
        for name, rows in shown.items()
    ]
    return Drawing(
        "layer_errors",
        "Error of each layer after conversion",
        "Line chart over the layers: " + ", ".join(parts) + ".",
        figure,
    )


RECORD_FIGURES = (
    accuracy_over_time,
    accuracy_over_energy,
    energy_to_quantised,
    firing_rates,
    synaptic_operations,
)
