"""Random spike masks: an ANN's accuracy under them, and the share of spikes that they drop.

The published networks are evaluated with masks drawn afresh in each call (Z. Wang et al., ICCV
2023); ours are evaluated with masks at their expectation. This gives both.
"""

import copy

import torch
from torch import Tensor, nn

from ..counting import Totals
from ..neurons import SpikeMask
from .accuracy import Accuracy


class RandomMasks:
    """Accuracy of a network whose `SpikeMask`s draw, everything else in eval mode.

    The draws are torch's, seeded with the number of each batch's first image, so they depend on
    the batch size. The caller's network and generators are left as they are.
    """

    def __init__(self, model: nn.Module):
        self.network = copy.deepcopy(model).eval()
        for module in self.network.modules():
            if isinstance(module, SpikeMask):
                module.train()
        self.accuracy = Accuracy()

    def add(self, images: Tensor, labels: Tensor, first_index: int) -> None:
        devices = [images.device] if images.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(first_index)
            self.accuracy.add(self.network(images), labels)


def random_masks(model) -> RandomMasks | None:
    """None for a network without masks."""
    if not isinstance(model, nn.Module):
        return None
    masked = any(isinstance(m, SpikeMask) and m.ratio > 0 for m in model.modules())
    return RandomMasks(model) if masked else None


def masked_share(model, totals: Totals | None) -> float | None:
    """Share of a converted network's spikes that its masks drop, in expectation; None if unknown.

    Spikes sent at the masked sites times the ratio, over all spikes sent.
    """
    masks = getattr(model, "masks", None)
    if totals is None or not isinstance(masks, dict) or not totals.spikes:
        return None
    known = {site: mask.ratio for site, mask in masks.items() if site in totals.sites}
    if len(known) < len(masks):
        return None
    dropped = sum(totals.sites[site].spikes * ratio for site, ratio in known.items())
    return dropped / totals.spikes
