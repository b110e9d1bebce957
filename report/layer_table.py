"""What was observed in each layer, as a table for a paper."""

from collections.abc import Mapping

from ..evaluate.observation import Observation
from .grid import Grid
from .tables import percent, plain_digits


def layer_table(observations: Mapping[str, Observation]) -> list[Grid]:
    """One table of all layers of all models; empty if nothing was observed."""
    head = ("Model", "Layer", "Neurons", "Firing rate, %", "Fired at all, %", "Relative error")
    rows, values = [], []
    for name, seen in observations.items():
        for layer in seen.layers:
            rows.append(
                (
                    name,
                    layer.name,
                    str(layer.neurons),
                    percent(100 * layer.rate),
                    percent(100 * layer.fired),
                    plain_digits(layer.error),
                )
            )
            values.append(
                (
                    name,
                    layer.name,
                    layer.neurons,
                    layer.rate,
                    layer.fired,
                    layer.error,
                    seen.images,
                    seen.timesteps,
                )
            )
    if not rows:
        return []
    keys = (
        "model",
        "layer",
        "neurons",
        "firing_rate",
        "fired_share",
        "relative_error",
        "images",
        "timesteps",
    )
    return [Grid("layers", "Layers", head, rows, keys, values)]
