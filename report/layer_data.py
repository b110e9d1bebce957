"""Observed layers as compact text for the browser: one JSON value, a few KB per layer.

Bytes are base64. `templates/layers.js` reads what is written here.
"""

import base64
import json
from collections.abc import Mapping

import torch
from torch import Tensor

from ..evaluate.observation import READ_RANGE, SENT_RANGE, Layer, Observation
from .layer_figures import alt_text, default_layer

_DECADES = 5  # of shares that are told apart, 1e-5 to 1


def layers_json(observations: Mapping[str, Observation]) -> str:
    """JSON that may stand inside a script element; "" if there is nothing to show."""
    models = [_model(name, seen) for name, seen in observations.items() if seen.layers]
    if not models:
        return ""
    text = json.dumps(
        {"sent": SENT_RANGE, "read": READ_RANGE, "decades": _DECADES, "models": models},
        separators=(",", ":"),
        allow_nan=False,
    )
    return text.replace("<", "\\u003c")


def _model(name: str, seen: Observation) -> dict:
    first = default_layer(seen)
    window = "" if seen.window is None else (f"mean of steps {seen.window[0]} to {seen.window[1]}")
    if seen.kind == "converted" and seen.window is None:
        window = "sum of all steps"
    return {
        "name": name,
        "steps": seen.timesteps,
        "images": seen.images,
        "window": window,
        "first": seen.layers.index(first),
        "layers": [_layer(seen, x) for x in seen.layers],
    }


def _layer(seen: Observation, layer: Layer) -> dict:
    told = {
        "name": layer.name,
        "text": alt_text(seen, layer),
        "rows": layer.raster.shape[1],
        "plus": _bits(layer.raster > 0),
        "rates": _shares(layer.rates),
    }
    if bool((layer.raster < 0).any()):
        told["minus"] = _bits(layer.raster < 0)
    if layer.membranes is not None:
        low, high = (float(f"{x:.3g}") for x in torch.aminmax(layer.membranes))
        told["membranes"] = [
            low,
            high,
            layer.membranes.shape[1],
            _bytes(_scaled(layer.membranes.T, low, high)),
        ]
    if layer.ann is not None:
        top = float(f"{max(float(layer.ann.max()), float(layer.snn.max()), 0.1):.3g}")
        pairs = torch.stack((layer.ann, layer.snn))
        told["pairs"] = [top, _bytes(_scaled(pairs, 0.0, top))]
    for key in ("sent_ann", "sent_snn", "read_ann", "read_snn"):
        shares = getattr(layer, key)
        if shares is not None:
            told[key] = _shares(shares)
    return told


def _scaled(x: Tensor, low: float, high: float) -> Tensor:
    """Values between low and high as 0 to 255."""
    size = high - low if high > low else 1.0
    return ((x - low) / size * 255).round().clamp(0, 255)


def _shares(shares: Tensor) -> str:
    """Shares on a logarithmic scale, 1 to 255; 0 is nothing."""
    levels = (shares.clamp(min=10.0**-_DECADES).log10() / _DECADES + 1) * 254 + 1
    return _bytes(torch.where(shares > 0, levels, 0.0).round())


def _bits(x: Tensor) -> str:
    """Booleans [T, rows], eight in a byte, the first one lowest, row by row of the transpose."""
    flat = x.T.flatten().to(torch.uint8)
    flat = torch.nn.functional.pad(flat, (0, -len(flat) % 8)).view(-1, 8)
    return _bytes((flat << torch.arange(8, dtype=torch.uint8)).sum(1))


def _bytes(x: Tensor) -> str:
    return base64.b64encode(bytes(x.flatten().to(torch.uint8).tolist())).decode("ascii")
