"""Distributions over all layers: ANN against SNN, and batch norm against layer norm."""

from collections.abc import Mapping

import torch
from matplotlib.ticker import MaxNLocator

from ..evaluate.observation import READ_RANGE, SENT_RANGE, Layer, Observation
from .drawing import COLORS, Drawing, new_panels, style

_FLOOR = 1e-5  # of a share: what is shown as nothing


def _compared(observation: Observation) -> list[Layer]:
    return [layer for layer in observation.layers if layer.sent_ann is not None]


def distributions(observations: Mapping[str, Observation]) -> list[Drawing]:
    """Of each converted model: activations and received charge, layer by layer, as heat maps."""
    drawn = []
    for number, (name, observation) in enumerate(observations.items(), 1):
        layers = _compared(observation)
        if layers:
            drawn.append(_heat_maps(f"distributions_{number}", name, layers))
    return drawn


def _heat_maps(file: str, model: str, layers: list[Layer]) -> Drawing:
    figure, axes = new_panels(
        f"Distribution of values in each layer\n{model}",
        2,
        2,
        (5.2, 5.6),
        sharex=True,
        sharey="row",
    )
    rows = (
        (("sent_ann", "sent_snn"), SENT_RANGE, "activation / threshold"),
        (("read_ann", "read_snn"), READ_RANGE, "charge per step / threshold"),
    )
    with style():
        for row, (keys, limits, label) in enumerate(rows):
            for column, key in enumerate(keys):
                table = torch.stack([getattr(layer, key) for layer in layers])
                shown = table.clamp(min=_FLOOR).log10().T.numpy()
                image = axes[row, column].imshow(
                    shown,
                    origin="lower",
                    aspect="auto",
                    interpolation="nearest",
                    vmin=-5,
                    vmax=0,
                    extent=(0.5, len(layers) + 0.5, *limits),
                    cmap="viridis",
                )
                axes[row, column].grid(False)
                axes[row, column].xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes[row, 0].set_ylabel(label)
        for column, text in enumerate(("ANN", "SNN")):
            axes[0, column].set_title(text, loc="left")
            axes[1, column].set_xlabel("layer, in data-flow order")
        bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.6, aspect=30)
        bar.set_label("share of the layer's values (logarithm to base 10)")
        bar.outline.set_visible(False)
    error = [layer.error for layer in layers if layer.error is not None]
    alt = (
        f"Heat maps over {len(layers)} layers: activations above, charge that a membrane "
        f"receives per step below, ANN left, SNN right"
    )
    if error:
        alt += (
            f". Relative distance of the two between {100 * min(error):.3g} and "
            f"{100 * max(error):.3g} %"
        )
    return Drawing(file, f"Distribution of values in each layer, {model}", alt + ".", figure)


def norms(observations: Mapping[str, Observation]) -> Drawing | None:
    """Batch norm against layer norm: activations and received charge, ANN and SNN."""
    found = {}
    for name, observation in observations.items():
        if observation.norm in ("BN", "LN") and _compared(observation):
            found.setdefault(observation.norm, (name, observation))
    if len(found) < 2:
        return None
    figure, axes = new_panels(
        "Batch norm against layer norm", 2, 2, (5.2, 4.8), sharey=True, sharex="col"
    )
    parts = []
    with style():
        for row, norm in enumerate(("BN", "LN")):
            name, observation = found[norm]
            layers = _compared(observation)
            weights = torch.tensor([float(layer.neurons) for layer in layers])
            errors = []
            for column, (what, limits, label) in enumerate(
                (
                    ("sent", SENT_RANGE, "activation / threshold"),
                    ("read", READ_RANGE, "charge per step / threshold"),
                )
            ):
                ann, snn = (_mean(layers, f"{what}_{who}", weights) for who in ("ann", "snn"))
                errors.append(float((ann - snn).abs().sum()) / 2)
                place = axes[row, column]
                edges = torch.linspace(*limits, len(ann) + 1)
                place.stairs(
                    (100 * ann).tolist(),
                    edges.tolist(),
                    color=COLORS[0],
                    linewidth=1.4,
                    label="ANN",
                )
                place.stairs(
                    (100 * snn).tolist(),
                    edges.tolist(),
                    color=COLORS[1],
                    linewidth=1.4,
                    linestyle="--",
                    label="SNN",
                )
                place.set_yscale("log")
                place.set_title(f"{norm}: {100 * errors[-1]:.3g} % apart", loc="left")
                if row:
                    place.set_xlabel(label)
            axes[row, 0].set_ylabel("share of values, %")
            axes[row, 0].legend()
            parts.append(
                f"{norm} ({name}): the distributions of ANN and SNN differ in "
                f"{100 * errors[0]:.3g} % of the activations and {100 * errors[1]:.3g} % "
                "of the charges"
            )
    return Drawing(
        "norms",
        "Batch norm against layer norm",
        "Histograms over all layers: " + "; ".join(parts) + ".",
        figure,
    )


def _mean(layers: list[Layer], key: str, weights: torch.Tensor) -> torch.Tensor:
    """Shares over all layers, each weighed with its neurons."""
    table = torch.stack([getattr(layer, key) for layer in layers])
    return (table * weights[:, None]).sum(0) / weights.sum()
