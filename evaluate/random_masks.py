"""Random spike masks: an ANN's accuracy under them, and the share of spikes that they drop.

The published networks are evaluated with masks drawn afresh in each call (Z. Wang et al., ICCV
2023); ours are evaluated with masks at their expectation. This gives both.
"""

import copy

import torch
from torch import Tensor, nn

from ..counting import Totals
from ..neurons import SpikeMask
from ..support.structure import inputs_of
from .accuracy import Accuracy
from .calling import Caller


class RandomMasks:
    """Accuracy of a network whose `SpikeMask`s draw, everything else in eval mode.

    The draws are torch's, seeded with the number of each batch's first image, so they depend on
    the batch size. The caller's network and generators are left as they are.
    """

    def __init__(self, caller: Caller):
        self.caller = copy.copy(caller)
        self.caller.model = copy.deepcopy(caller.model).eval()
        for module in self.caller.model.modules():
            if isinstance(module, SpikeMask):
                module.train()
        self.accuracy = Accuracy()

    def add(self, images, labels: Tensor, first_index: int) -> None:
        devices = [x.device for x in inputs_of(images)[:1] if x.is_cuda]
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(first_index)
            outputs = self.caller(images, first_index)
            self.accuracy.add([x.unsqueeze(0) for x in outputs], labels)


def random_masks(caller: Caller) -> RandomMasks | None:
    """None for a network without masks, or that is no classifier."""
    model = caller.model
    if not isinstance(model, nn.Module) or caller.task != "classify":
        return None
    masked = any(isinstance(m, SpikeMask) and m.ratio > 0 for m in model.modules())
    return RandomMasks(caller) if masked else None


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
