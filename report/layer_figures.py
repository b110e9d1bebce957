"""One neuron layer in six panels: raster, firing rates, membranes, ANN against SNN, distributions.

The report draws the same panels in the browser for whichever layer is chosen; this is the one that
stands in a paper.
"""

from collections.abc import Mapping

import torch
from matplotlib.ticker import MaxNLocator

from ..evaluate.observation import READ_RANGE, SENT_RANGE, Layer, Observation
from .drawing import COLORS, Drawing, new_panels, style

_ANN, _SNN = COLORS[0], COLORS[1]


def default_layer(observation: Observation) -> Layer:
    """The layer that is shown first: the middle one of those that fire."""
    firing = [layer for layer in observation.layers if layer.rate > 0] or observation.layers
    return firing[len(firing) // 2]


def layer_figures(observations: Mapping[str, Observation]) -> list[Drawing]:
    """A drawing of the middle layer of each model."""
    return [
        layer_panels(name, observation, default_layer(observation), f"layer_{number}")
        for number, (name, observation) in enumerate(observations.items(), 1)
    ]


def layer_panels(model: str, observation: Observation, layer: Layer, name: str) -> Drawing:
    """Six panels of one layer (four for a network without an ANN)."""
    compared = layer.ann is not None
    figure, axes = new_panels(
        f"Layer {layer.name}\nof {model}", 3 if compared else 2, 2, (5.2, 6.6 if compared else 4.6)
    )
    with style():
        _raster(axes[0, 0], layer)
        _rates(axes[0, 1], layer)
        _membranes(axes[1, 0], layer)
        if compared:
            _pairs(axes[1, 1], layer)
            _shares(
                axes[2, 0],
                "Activations",
                "value / threshold",
                SENT_RANGE,
                layer.sent_ann,
                layer.sent_snn,
            )
            _shares(
                axes[2, 1],
                "Before the activation",
                "charge per step / threshold",
                READ_RANGE,
                layer.read_ann,
                layer.read_snn,
            )
        else:
            axes[1, 1].set_axis_off()
    title = f"Layer {layer.name} of {model}"
    return Drawing(name, title, alt_text(observation, layer), figure)


def alt_text(observation: Observation, layer: Layer) -> str:
    """The layer in a sentence."""
    text = (
        f"{layer.neurons} neurons, {100 * layer.rate:.2g} % of them fire per step, "
        f"{100 * layer.fired:.3g} % ever do within {observation.timesteps} steps"
    )
    if layer.error is not None:
        text += f"; the spiking values are off the ANN's by {100 * layer.error:.3g} %"
    return f"Panels: spike raster, firing rates, membranes, values beside the ANN. {text}."


def _raster(axes, layer: Layer) -> None:
    axes.set_title("Spikes of some neurons", loc="left")
    axes.set_xlabel("time step")
    axes.set_ylabel("neuron")
    for sign, color in ((1, _ANN), (-1, _SNN)):
        steps, neurons = layer.raster.sign().eq(sign).nonzero(as_tuple=True)
        if len(steps):
            axes.scatter(
                (steps + 1).tolist(),
                (neurons + 1).tolist(),
                s=3,
                marker="s",
                color=color,
                linewidths=0,
            )
    axes.set_xlim(0.5, len(layer.raster) + 0.5)
    axes.set_ylim(0.5, layer.raster.shape[1] + 0.5)
    axes.grid(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _rates(axes, layer: Layer) -> None:
    axes.set_title("Firing rates", loc="left")
    axes.set_xlabel("spikes a neuron and step, %")
    axes.set_ylabel("share of neurons, %")
    edges = torch.linspace(0, 100, len(layer.rates) + 1)
    axes.stairs((100 * layer.rates).tolist(), edges.tolist(), fill=True, color=_ANN)
    axes.set_ylim(bottom=0)


def _membranes(axes, layer: Layer) -> None:
    axes.set_title("Membranes", loc="left")
    axes.set_xlabel("time step")
    axes.set_ylabel("potential / threshold")
    if layer.membranes is None:
        axes.text(
            0.5,
            0.5,
            "the neuron keeps\nno membrane over time",
            ha="center",
            va="center",
            transform=axes.transAxes,
        )
        return
    for i, trace in enumerate(layer.membranes.T):
        axes.plot(
            range(1, len(trace) + 1),
            trace.tolist(),
            linewidth=1.0,
            color=COLORS[i],
            linestyle=("-", "--", ":")[i % 3],
        )
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _pairs(axes, layer: Layer) -> None:
    axes.set_title("ANN against SNN", loc="left")
    axes.set_xlabel("ANN, value / threshold")
    axes.set_ylabel("SNN, value / threshold")
    top = float(max(layer.ann.max(), layer.snn.max(), 0.1))
    axes.plot(
        [0, top], [0, top], linewidth=1, linestyle="--", color=axes.spines["left"].get_edgecolor()
    )
    axes.scatter(layer.ann.tolist(), layer.snn.tolist(), s=7, alpha=0.6, color=_ANN, linewidths=0)


def _shares(axes, title: str, xlabel: str, limits, ann, snn) -> None:
    axes.set_title(title, loc="left")
    axes.set_xlabel(xlabel)
    axes.set_ylabel("share, %")
    edges = torch.linspace(*limits, len(snn) + 1)
    axes.stairs((100 * ann).tolist(), edges.tolist(), color=_ANN, linewidth=1.4, label="ANN")
    axes.stairs(
        (100 * snn).tolist(), edges.tolist(), color=_SNN, linewidth=1.4, linestyle="--", label="SNN"
    )
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_ylim(bottom=0)
    axes.legend()
