"""What the sites of a network read and give when every activation is clip(x, 0, threshold)."""

import copy
import math

import torch
from torch import Tensor, fx

from ..graph.surgery import calls, set_module
from ..neurons import QCFS, ClippedReLU
from ..support.structure import inputs_of
from .channels import SiteStatistics


def clip_sites(gm: fx.GraphModule) -> list[tuple[fx.Node, ClippedReLU]]:
    """Every QCFS of a graph becomes clip(x, 0, threshold), under the same name."""
    found = [(node, site.clipped()) for node, site in calls(gm, QCFS)]
    for node, clip in found:
        set_module(gm, node.target, clip)
    return found


@torch.no_grad()
def clipped_statistics(gm: fx.GraphModule, batches) -> dict[str, SiteStatistics]:
    """Run the clipped network, masks at their expectation, on batches of images [B, C, H, W].

    A batch of several inputs is a tuple of them.

    Args:
        gm: a QCFS network in normal form; it is not changed.

    Raises:
        ValueError: activations that are NaN or infinite.
    """
    gm = copy.deepcopy(gm).eval()
    found = {}
    for node, clip in clip_sites(gm):
        found[node.target] = SiteStatistics(gm, node)
        clip.register_forward_hook(found[node.target].see)
    for images in batches:
        gm(*inputs_of(images))
    for name, site in found.items():
        if not bool(site.total.isfinite().all()):
            raise ValueError(
                f"site {name!r} reads NaN or infinity on the calibration images; check "
                "the network and its input normalisation"
            )
    return found


def fitted_thresholds(
    gm: fx.GraphModule,
    statistics: dict[str, SiteStatistics],
    images: int,
    share: float = 0.05,
    least: float = 0.01,
    room: float = 5.0,
) -> dict[str, Tensor]:
    """Thresholds for rate coding: per channel, as low as the data allow.

    The largest activation of each channel, but at least `share` of that of the site's largest
    channel and `least` of the trained threshold, times 1 + room / sqrt(images), and never above the
    trained threshold. A lower threshold carries the same mean with more spikes, so that less of it
    waits in the membrane; too low a one clips images that were not seen, for ever. The fewer images
    were seen, the more room is left above them (measured in docs/if_calibration.md).

    Args:
        statistics: from `clipped_statistics`.
        images: how many images those are of.

    Returns:
        {site: tensor that broadcasts to one image}
    """
    fitted = {}
    for node, module in calls(gm, QCFS):
        largest = statistics[node.target].largest
        trained = module.threshold.detach()
        if trained.dim() == 1 and trained.numel() > 1:
            trained = trained.view(-1, *[1] * (largest.dim() - 1 if module.axis == 1 else 0))
        height = torch.maximum(largest, share * largest.amax()) * (1 + room / math.sqrt(images))
        fitted[node.target] = torch.minimum(torch.maximum(height, least * trained), trained)
    return fitted
