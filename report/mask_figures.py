"""Networks that differ in their mask ratio alone: accuracy and energy against the ratio, a table.

After the Masked Spiking Transformer (Z. Wang et al., ICCV 2023): its table of power and accuracy at
0, 50 and 75 % gives both, and in brackets the change against the network without masks.
"""

from collections.abc import Callable, Sequence

from .drawing import (
    COLORS,
    MARKERS,
    SIZE,
    Drawing,
    legend_below,
    new_figure,
    new_panels,
    style,
)
from .grid import Grid
from .tables import energy, percent

# Curves may lie on each other: the first is wide and pale, the last thin and on top.
_LINES = (
    {"linestyle": "-", "linewidth": 5.0, "alpha": 0.4, "markersize": 9},
    {"linestyle": ":", "linewidth": 2.5, "markersize": 6},
    {"linestyle": "-", "linewidth": 1.2, "markersize": 4},
)
_ALIKE = (
    "parameters",
    "neuron",
    "attention",
    "timesteps",
    "readout",
    "levels",
    "calibration",
    "mask_scaling",
)
_SPAN = 4.0  # points of accuracy that a chart shows at least


def mask_groups(records: Sequence[dict]) -> list[list[dict]]:
    """Converted networks of equal build and simulation and at least two mask ratios, by ratio.

    Networks of equal build have equally many parameters, and were calibrated alike; a ratio that is
    there twice stands once, as the first of its rows.
    """
    groups: dict[tuple, dict[float, dict]] = {}
    for record in records:
        told = record["mask"] is not None and record["top1"] is not None
        if record["kind"] == "converted" and told:
            key = tuple(str(record.get(k)) for k in _ALIKE)
            groups.setdefault(key, {}).setdefault(record["mask"], record)
    return [
        [by_ratio[ratio] for ratio in sorted(by_ratio)]
        for by_ratio in groups.values()
        if len(by_ratio) > 1
    ]


def group_name(group: Sequence[dict]) -> str:
    """What the names of a group's rows begin with, else the first name."""
    first = group[0]["name"].partition("/")[0]
    shared = first.rstrip("0123456789.").rstrip("-_").removesuffix("mask").rstrip("-_")
    return shared if all(r["name"].startswith(shared) for r in group) else first


def _ann_of(record: dict, records: Sequence[dict]) -> dict | None:
    anns = [r for r in records if r["kind"] == "ann" and r["run"] == record["run"]]
    return anns[0] if anns and record["run"] is not None else None


def _curves(group: Sequence[dict], records: Sequence[dict]) -> list[tuple[str, list]]:
    """(what, points (mask ratio, top-1)): both readings of the ANN, then the spiking network."""
    anns = [(r["mask"], _ann_of(r, records) or {}) for r in group]
    told = [
        (what, [(mask, ann[key]) for mask, ann in anns if ann.get(key) is not None])
        for what, key in (
            ("ANN, masks at their expectation", "top1"),
            ("ANN, random masks", "top1_random_masks"),
        )
    ]
    return [*told, ("SNN", [(r["mask"], r["top1"]) for r in group])]


def mask_accuracy(records: Sequence[dict]) -> Drawing | None:
    """Top-1 against the mask ratio: spiking networks, their ANNs, ANNs under random masks."""
    groups = mask_groups(records)
    if not groups:
        return None
    figure, axes = new_figure("Accuracy against mask ratio", "mask ratio", "top-1 accuracy, %")
    parts = []
    with style():
        for i, group in enumerate(groups):
            name = group_name(group)
            for k, (what, points) in enumerate(_curves(group, records)):
                if points:
                    place = 3 * i + k
                    axes.plot(
                        *zip(*points, strict=True),
                        label=f"{name}: {what}",
                        color=COLORS[place % len(COLORS)],
                        marker=MARKERS[place % len(MARKERS)],
                        **_LINES[k],
                    )
            parts.append(
                name + " " + ", ".join(f"{percent(r['top1'])} % at {r['mask']:g}" for r in group)
            )
        _at_least(axes, "y", _SPAN)
        axes.margins(x=0.08)
        legend_below(figure, *axes.get_legend_handles_labels())
    return Drawing(
        "mask_accuracy",
        "Accuracy against mask ratio",
        "Line chart of top-1 accuracy of the spiking networks: " + "; ".join(parts) + ".",
        figure,
    )


def _at_least(axes, axis: str, span: float) -> None:
    """Widen an axis to a least span, so that a difference of one image does not fill the chart."""
    low, high = getattr(axes, f"get_{axis}lim")()
    middle, half = (low + high) / 2, max(high - low, span) * 0.6
    getattr(axes, f"set_{axis}lim")(middle - half, middle + half)


def mask_power(records: Sequence[dict]) -> Drawing | None:
    """Energy and accuracy of the spiking networks at each mask ratio."""
    groups = [g for g in mask_groups(records) if all(r["energy_millijoules"] for r in g)]
    if not groups:
        return None
    model = groups[0][0]["energy_model"]
    title = "Energy and accuracy at each mask ratio"
    figure, axes = new_panels(title, 1, 2, SIZE)
    left, right = axes[0]
    parts = []
    with style():
        for i, group in enumerate(groups):
            look = {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i % len(MARKERS)]}
            ratios = [r["mask"] for r in group]
            left.plot(ratios, [r["energy_millijoules"] for r in group], **look)
            right.plot(ratios, [r["top1"] for r in group], label=group_name(group), **look)
            parts.append(f"{group_name(group)} {', '.join(map(_power_and_accuracy, group))}")
        left.set_ylabel(f"energy per image, mJ\n({model})")
        left.set_ylim(0, 1.15 * left.get_ylim()[1])
        right.set_ylabel("top-1 accuracy, %")
        _at_least(right, "y", _SPAN)
        for panel in (left, right):
            panel.set_xlabel("mask ratio")
            panel.margins(x=0.08)
        legend_below(figure, *right.get_legend_handles_labels())
    alt = "Line charts against the mask ratio, energy left, top-1 right: " + "; ".join(parts) + "."
    return Drawing("mask_power", title, alt, figure)


def _power_and_accuracy(record: dict) -> str:
    power = energy(record["energy_millijoules"])
    return f"{power} and {percent(record['top1'])} % at {record['mask']:g}"


def mask_table(records: Sequence[dict]) -> Grid | None:
    """A row for each network and mask ratio; in brackets the change against no masks."""
    groups = mask_groups(records)
    if not groups:
        return None
    head = (
        "Network",
        "Mask",
        "Energy (change)",
        "SNN top-1, % (change)",
        "ANN top-1, %",
        "ANN, random masks, %",
        "Spikes masked, %",
    )
    rows, plain = [], []
    for group in groups:
        bare = group[0] if group[0]["mask"] == 0 else None
        for record in group:
            ann = _ann_of(record, records) or {}
            masked = record.get("masked_share")
            shift = _change(record, bare, "energy_millijoules", lambda a, b: 100 * (a / b - 1))
            gain = _change(record, bare, "top1", lambda a, b: a - b)
            rows.append(
                (
                    group_name(group),
                    f"{record['mask']:g}",
                    energy(record["energy_millijoules"]) + _bracket(shift, " %", 1),
                    percent(record["top1"]) + _bracket(gain, "", 2),
                    percent(ann.get("top1")),
                    percent(ann.get("top1_random_masks")),
                    percent(None if masked is None else 100 * masked),
                )
            )
            plain.append(
                (
                    group_name(group),
                    record["mask"],
                    record["energy_millijoules"],
                    shift,
                    record["top1"],
                    gain,
                    ann.get("top1"),
                    ann.get("top1_random_masks"),
                    masked,
                )
            )
    keys = (
        "network",
        "mask",
        "energy_millijoules",
        "energy_change_percent",
        "top1",
        "top1_change",
        "ann_top1",
        "ann_top1_random_masks",
        "masked_share",
    )
    return Grid("masks", "Mask ratios", head, rows, keys, plain)


def _change(record: dict, bare: dict | None, key: str, how: Callable) -> float | None:
    if bare is None or record is bare or record[key] is None or not bare[key]:
        return None
    return how(record[key], bare[key])


def _bracket(value: float | None, unit: str, digits: int) -> str:
    return "" if value is None else f" ({value:+.{digits}f}{unit})"
