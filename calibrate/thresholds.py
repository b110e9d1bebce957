"""Thresholds from data: how high the activations of each site get."""

import torch
from torch import Tensor, fx, nn

from ..graph import Prepared, prepare
from ..graph.inputs import input_names
from ..graph.layout import channel_axis
from ..graph.surgery import calls
from ..neurons import ClippedReLU
from ..ops import relu_bound
from ..support.autocast import without_autocast
from ..support.choices import METHODS
from ..support.structure import inputs_of
from .batches import Batches
from .clipped_statistics import clip_sites
from .observers import LargestActivation, PercentileActivation


@without_autocast
def activation_thresholds(
    model: nn.Module | Prepared,
    loader,
    method: str = "max",
    per_channel: bool = True,
    leaf_modules=(),
    example_inputs=None,
    percentile: float = 99.9,
) -> dict[str, Tensor]:
    """How high the activations of every site get, over all images of a loader.

    Args:
        model: a network with plain ReLU, ReLU6 or clamp(0, c), or one with QCFS sites; it is not
            changed. A QCFS network is run as its clipped network, masks at their expectation, and
            no value lies above the trained threshold.
        loader: batches of images [B, C, H, W]; see `Batches` for the forms.
        method: "max", or "percentile" of the positive activations.
        per_channel: one value a channel where the channel axis is known, else one a site.
        percentile: in (0, 100], for that method.

    Returns:
        {site: tensor [C] or [1]}, which `insert_qcfs(thresholds=)` takes. 0 is a dead channel.

    Raises:
        UnconvertibleError: lists every operation that cannot be converted.
        ValueError: an empty loader, NaN activations, an unknown method, a network without sites.
    """
    METHODS.check(method)
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile {percentile!r} must lie above 0 and at most at 100")
    batches = Batches(loader, input_names(model))
    example = batches.first if example_inputs is None else example_inputs
    gm = prepare(model, leaf_modules, example).copy()
    observers = {}
    for node, module in _sites(gm):
        axis = channel_axis(gm, node.args[0]) if per_channel else None
        observer = observers[node.target] = METHODS[method](axis, percentile)
        module.register_forward_hook(lambda _m, _i, out, o=observer: o.see(out))
    weight = next(gm.parameters())
    with torch.no_grad():
        for images in batches:
            gm(*(x.to(weight.device, weight.dtype) for x in inputs_of(images)))
    for name, observer in observers.items():
        if observer.largest is None or not bool(observer.largest.isfinite().all()):
            raise ValueError(
                f"the activations of site {name!r} are NaN or infinite; check the "
                "network and its input normalisation"
            )
    return {name: observer.value() for name, observer in observers.items()}


METHODS["max"] = lambda axis, percentile: LargestActivation(axis)
METHODS["percentile"] = PercentileActivation


def _sites(gm: fx.GraphModule) -> list[tuple[fx.Node, nn.Module]]:
    """Sites in the order of the data flow; QCFS ones are clipped."""
    clip_sites(gm)
    return [
        (node, module)
        for node, module in calls(gm, nn.ReLU, nn.Hardtanh, ClippedReLU)
        if isinstance(module, ClippedReLU) or relu_bound(module) is not None
    ]
