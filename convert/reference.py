"""The network that a conversion is measured against: what its readout tends to."""

import torch
from torch import Tensor, fx, nn

from ..graph import Prepared, prepare
from ..graph.outputs import in_structure
from ..graph.surgery import calls
from ..neurons import Clock, SeededMask
from .passes.masks import insert_masks, masks_to_seeded, remove_masks
from .passes.sites import qcfs_to_clipped


class Reference(nn.Module):
    """`reference(images, first_index=0)` -> what the network gives, logits [B, classes].

    For rate coding the clipped network, masked sites at their expectation; for cumulative coding the
    QCFS network with the frozen masks of the conversion.

    Attributes:
        name: "clipped network" or "QCFS network", for outputs.
        network: the graph; sites keep their names.
    """

    def __init__(self, network: fx.GraphModule, name: str):
        super().__init__()
        self.network = network
        self.name = name
        self.clock = Clock()
        for _, mask in calls(network, SeededMask):
            mask.clock = self.clock

    @torch.no_grad()
    def forward(self, *inputs: Tensor, first_index: int = 0):
        if not isinstance(inputs[-1], Tensor):  # by place
            *inputs, first_index = inputs
        self.clock.batch, self.clock.first_index = len(inputs[0]), first_index
        return in_structure(self.network, self.network(*inputs))


def reference_network(network, model: nn.Module | Prepared) -> Reference:
    """What a `SpikingNetwork` made of the QCFS network `model` tends to, as a plain network."""
    gm = prepare(model).copy()
    gm.requires_grad_(False)
    info = network.info
    remove_masks(gm)
    if info.mask > 0:
        insert_masks(gm, info.mask, info.mask_sites, info.mask_scaling)
    return limit(gm.eval(), network)


def limit(gm: fx.GraphModule, network) -> Reference:
    """What `network` tends to, out of its QCFS network in normal form with masks, which is used up."""
    if network.coding.clips:
        qcfs_to_clipped(gm)
    if network.coding.freezes_masks:
        masks_to_seeded(gm, network.info.seed, network.info.mask_scaling, frozen=True)
    return Reference(gm, network.coding.limit)
