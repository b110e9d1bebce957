"""Thresholds from data: how high the activations of each site get."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, fx, nn

from ..graph import Prepared, prepare
from ..graph.inputs import input_names
from ..graph.layout import channel_axis
from ..graph.planned_sites import open_sites
from ..graph.surgery import calls
from ..neurons import ClippedReLU
from ..support.choices import METHODS
from ..support.precision import full_precision
from ..support.structure import inputs_of
from ..support.whole_numbers import whole_number
from .batches import Batches
from .clipped_statistics import clip_sites
from .observers import ActivationHistogram, LargestActivation


@dataclasses.dataclass(frozen=True)
class Rule:
    """From what was observed at a site to its threshold.

    Attributes:
        value: (observer, percentile, levels) -> [C] or [1].
        observer: class of the observer that it needs.
    """

    value: Callable[[LargestActivation, float, int], Tensor]
    observer: type[LargestActivation] = ActivationHistogram


METHODS["max"] = Rule(lambda seen, percentile, levels: seen.largest, LargestActivation)
METHODS["headroom"] = Rule(
    lambda seen, percentile, levels: seen.largest.clamp(min=seen.largest.max() / 2),
    LargestActivation,
)
METHODS["percentile"] = Rule(lambda seen, percentile, levels: seen.percentile(percentile))
METHODS["mse"] = Rule(lambda seen, percentile, levels: seen.least_error(levels))


@full_precision
def activation_thresholds(
    model: nn.Module | Prepared,
    loader,
    method: str = "max",
    per_channel: bool = True,
    leaf_modules=(),
    example_inputs=None,
    percentile: float = 99.9,
    sites: str = "relu",
    levels: int = 16,
) -> dict[str, Tensor]:
    """How high the activations of every site get, over all images of a loader.

    Args:
        model: a network without QCFS sites, or one with them; it is not changed. A QCFS network is
            run as its clipped network, masks at their expectation, and no value lies above the
            trained threshold.
        loader: batches of images [B, C, H, W]; see `Batches` for the forms.
        method: "max", "headroom": the same, but no channel below half the largest of its site (few
            images leave room for others), "percentile" of the positive activations, or "mse": the
            least mean square error of QCFS with `levels`. No rule is the best everywhere;
            `convert_model` compares.
        per_channel: one value a channel where the channel axis is known, else one a site.
        percentile: in (0, 100], for that method.
        sites: "relu", "all" (see `insert_qcfs`); of signed sites the absolute values count.
        levels: L, for method "mse".

    Returns:
        {site: tensor [C] or [1]}, which `insert_qcfs(thresholds=)` takes. 0 is a dead channel.

    Raises:
        UnconvertibleError: lists every operation that cannot be converted.
        ValueError: an empty loader, NaN activations, an unknown method, a network without sites.
    """
    rule = METHODS[METHODS.check(method)]
    check_percentile(percentile)
    levels = whole_number("levels", levels)
    batches = Batches(loader, input_names(model))
    example = batches.first if example_inputs is None else example_inputs
    prepared = prepare(model, leaf_modules, example, sites)
    observers = observe_sites(prepared, batches, per_channel, rule.observer)
    return {name: rule.value(seen, percentile, levels) for name, seen in observers.items()}


def check_percentile(percentile: float) -> None:
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile {percentile!r} must lie above 0 and at most at 100")


@torch.no_grad()
def observe_sites(
    prepared: Prepared, batches, per_channel: bool, kind: type[LargestActivation]
) -> dict[str, LargestActivation]:
    """An observer of this kind at every site, after all batches.

    Raises:
        ValueError: activations that are NaN or infinite.
    """
    gm, observers = prepared.copy(), {}
    for node, module in _sites(gm):
        axis = channel_axis(gm, node.args[0]) if per_channel else None
        observer = observers[node.target] = kind(axis)
        module.register_forward_hook(_tell(observer, getattr(module, "signed", False)))
    weight = next(gm.parameters())
    for images in batches:
        gm(*(x.to(weight.device, weight.dtype) for x in inputs_of(images)))
    for name, observer in observers.items():
        if observer.largest is None or not bool(observer.largest.isfinite().all()):
            raise ValueError(
                f"the activations of site {name!r} are NaN or infinite; check the "
                "network and its input normalisation"
            )
    return observers


def _tell(observer, signed: bool):
    def hook(module, inputs, output):
        observer.see(output.abs() if signed else output)

    return hook


def _sites(gm: fx.GraphModule) -> list[tuple[fx.Node, nn.Module]]:
    """Sites in the order of the data flow; QCFS ones are clipped."""
    clip_sites(gm)
    return open_sites(gm) or calls(gm, ClippedReLU)
