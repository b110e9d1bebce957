"""What an ANN's activations read and give, at the sites that became neurons."""

from torch import Tensor

from ..convert.reference import reference_network
from ..neurons import QCFS, ClippedReLU


def ann_values(snn, ann, images: Tensor, first_index: int) -> dict[str, tuple[Tensor, Tensor]]:
    """{site: (pre-activation, activation)}, [B, ...] each.

    Neurons of rate coding stand beside the QCFS network itself, masks at their expectation; those of
    cumulative coding, whose masks are frozen, beside the QCFS network with the same masks.
    """
    found: dict[str, tuple[Tensor, Tensor]] = {}
    frozen = snn.coding.freezes_masks and snn.info.mask > 0
    network = reference_network(snn, ann) if frozen else ann
    handles = []
    for name, module in (network.network if frozen else network).named_modules():
        if isinstance(module, (QCFS, ClippedReLU)) and name in snn.sites:
            handles.append(module.register_forward_hook(_keep(found, name)))
    try:
        network(images, first_index=first_index) if frozen else network(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _keep(found: dict, name: str):
    def hook(module, inputs, output):
        found[name] = inputs[0].detach(), output.detach()

    return hook
