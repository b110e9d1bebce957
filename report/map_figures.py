"""Spike activation maps over time beside the image and the ANN's ScoreCAM, one row per model."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from ..evaluate.activation_maps import GAMMA
from ..evaluate.observation import Observation
from .drawing import Drawing, new_panels, style

_ROWS = 6  # models at most


def activation_maps(observations: Mapping[str, Observation]) -> Drawing | None:
    """One row per model, converted ones first."""
    shown = [(name, seen) for name, seen in observations.items() if seen.maps is not None]
    shown = sorted(shown, key=lambda pair: pair[1].kind != "converted")[:_ROWS]
    if not shown:
        return None
    columns = 2 + max(len(seen.maps.steps) for _, seen in shown)
    width, head, tall = 5.2, 0.5, 1.12  # inches
    height = head + tall * len(shown)
    figure, axes = new_panels(
        "Spike activation maps over time", len(shown), columns, (width, height), layout=None
    )
    figure.subplots_adjust(
        left=0.01,
        right=0.99,
        bottom=0.18 / height,
        top=1 - (head + 0.06) / height,
        wspace=0.06,
        hspace=0.6,
    )
    with style():
        for place in axes.flat:
            place.set_axis_off()
        for row, (name, seen) in zip(axes, shown, strict=True):
            _row(row, seen)
            row[0].text(0, 1.05, _label(name, seen), transform=row[0].transAxes, fontsize=7)
    return Drawing("activation_maps", "Spike activation maps over time", _alt(shown), figure)


def _label(name: str, seen: Observation) -> str:
    return f"{name}; layer {seen.maps.site}"


def _row(row, seen: Observation) -> None:
    maps = seen.maps
    picture = _grey(maps.image)
    cells: list[tuple[str, Tensor | None]] = [
        ("image" if maps.label is None else f"label {maps.label}", None)
    ]
    answer = "" if maps.target is None else f" {maps.target}"
    cells.append((f"CAM{answer}" if maps.score_cam is not None else "no CAM", maps.score_cam))
    cells += [(f"t = {step}", spikes) for step, spikes in zip(maps.steps, maps.spikes, strict=True)]
    for place, (text, heat) in zip(row, cells, strict=False):
        place.text(0.5, -0.04, text, transform=place.transAxes, ha="center", va="top", fontsize=7)
        if heat is None and text.startswith("no"):
            continue
        place.imshow(
            picture.numpy() if heat is None else _overlaid(picture, heat),
            cmap="gray",
            vmin=0,
            vmax=1,
        )


def _grey(image: Tensor) -> Tensor:
    grey = image.float().mean(0)
    low, high = float(grey.min()), float(grey.max())
    return (grey - low) / (high - low) if high > low else torch.zeros_like(grey)


def _overlaid(picture: Tensor, heat: Tensor):
    """The picture under its heat map: [H, W, 3]."""
    from matplotlib import colormaps  # noqa: PLC0415  (only where maps are drawn)

    large = functional.interpolate(
        heat[None, None], picture.shape, mode="bilinear", align_corners=False
    )[0, 0]
    colors = torch.from_numpy(colormaps["inferno"](large.numpy())[..., :3]).float()
    return (0.65 * colors + 0.35 * picture[..., None]).clamp(0, 1).numpy()


def _alt(shown) -> str:
    parts = []
    for name, seen in shown:
        maps = seen.maps
        text = f"{name} at steps {', '.join(map(str, maps.steps))}"
        if maps.score_cam is not None:
            agree = _correlation(maps.spikes[-1], maps.score_cam)
            if agree is not None:
                text += f", last map correlates {agree:.2f} with ScoreCAM"
        parts.append(text)
    return (
        "One row per model: the image, ScoreCAM of the ANN, then the spike activation map "
        f"(an earlier spike weighs exp(-{GAMMA:g} n), n steps back) at five steps; bright is active. "
        + "; ".join(parts)
        + "."
    )


def _correlation(a: Tensor, b: Tensor) -> float | None:
    if a.shape != b.shape:
        return None
    pair = torch.stack((a.flatten(), b.flatten())).double()
    if bool((pair.std(1) == 0).any()):
        return None
    return float(torch.corrcoef(pair)[0, 1])
