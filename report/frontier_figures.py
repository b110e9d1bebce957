"""Settings of one network: accuracy against energy, synaptic operations and time."""

import math
from collections.abc import Mapping

from matplotlib.ticker import FuncFormatter

from .drawing import COLORS, MARKERS, Drawing, new_panels, style

_AXES = (
    ("energy_millijoules", 1.0, "energy per image, mJ"),
    ("synaptic_operations", 1e-6, "accumulations per image, millions"),
    ("seconds_per_image", 1e3, "time per image here, ms"),
)


def fits_figure(content) -> bool:
    """Whether a file that was read holds what `frontier_figure` draws."""
    if type(content) is not dict or type(content.get("tried")) is not list:
        return False
    texts = [content.get("advice"), content.get("part")]
    numbers = [content.get("ann_top1"), content.get("images")]
    for row in content["tried"]:
        if type(row) is not dict or any(key not in row for key, _, _ in _AXES):
            return False
        texts.append(row.get("neuron"))
        numbers += [row.get("top1"), *(row[key] or 0 for key, _, _ in _AXES)]
    return all(type(text) is str for text in texts) and all(
        type(number) in (int, float) and math.isfinite(number) and number >= 0 for number in numbers
    )


def frontier_figure(content: Mapping) -> Drawing:
    """Every setting that `tools/frontier.py` tried, the frontier as a line.

    Args:
        content: what frontier.json holds.
    """
    rows = content["tried"]
    title = f"What accuracy costs, {content['images']} images of the {content['part']} part"
    figure, axes = new_panels(title, 1, 3, (9.6, 3.6), sharey=True)
    neurons = list(dict.fromkeys(row["neuron"] for row in rows))
    with style():
        for panel, (key, scale, label) in zip(axes[0], _AXES, strict=True):
            shown = [row for row in rows if row[key]]
            for place, neuron in enumerate(neurons):
                mine = [row for row in shown if row["neuron"] == neuron]
                panel.scatter(
                    [scale * row[key] for row in mine],
                    [row["top1"] for row in mine],
                    s=22,
                    alpha=0.8,
                    color=COLORS[place % len(COLORS)],
                    marker=MARKERS[place % len(MARKERS)],
                    label=neuron,
                )
            line = _best_so_far(shown, key)
            panel.plot(
                [scale * row[key] for row in line],
                [row["top1"] for row in line],
                color="#808890",
                linewidth=1.2,
                drawstyle="steps-post",
                label="frontier",
            )
            panel.axhline(
                content["ann_top1"], linestyle="--", linewidth=1.0, color=COLORS[1], label="ANN"
            )
            values = [row[key] for row in shown]
            wide = bool(values) and max(values) > 10 * min(values)
            if wide:
                panel.set_xscale("log")
                panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            panel.set_xlabel(f"{label} (log scale)" if wide else label)
        axes[0, 0].set_ylabel("top-1 accuracy, %")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=len(labels))
    return Drawing(
        "frontier",
        "What accuracy costs",
        f"Scatter charts of {len(rows)} settings: {content['advice']}",
        figure,
    )


def _best_so_far(rows: list[dict], key: str) -> list[dict]:
    """Rows from cheap to dear that are better than all cheaper ones."""
    best, found = -1.0, []
    for row in sorted(rows, key=lambda r: (r[key], -r["top1"])):
        if row["top1"] > best:
            best = row["top1"]
            found.append(row)
    return found
