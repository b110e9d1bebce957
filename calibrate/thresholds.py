"""Thresholds from data: how high the activations of each site get."""

import torch
from torch import Tensor, nn

from ..graph import UnconvertibleError, normal_form
from ..graph.layout import channel_axis
from ..graph.operations import relu_bound
from ..graph.surgery import calls


def activation_thresholds(
    model: nn.Module,
    loader,
    method: str = "max",
    per_channel: bool = True,
    leaf_modules=(),
    example_inputs=None,
) -> dict[str, Tensor]:
    """The largest activation of every ReLU site, over all images of a loader.

    Args:
        model: a network with plain ReLU, ReLU6 or clamp(0, c); it is not changed.
        loader: iterable of image batches [B, C, H, W], or of (images, labels).
        method: "max".
        per_channel: one value a channel where the channel axis is known, else one a site.

    Returns:
        {site: tensor [C] or [1]}, which `insert_qcfs(thresholds=)` takes. 0 is a dead channel.

    Raises:
        ValueError: an empty loader, NaN activations, an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r} is unknown; known: {', '.join(METHODS)}")
    images = None
    loader = loader if hasattr(loader, "__len__") else list(loader)
    for batch in loader:
        images = batch_images(batch)
        break
    if images is None:
        raise ValueError("the loader gives no images; give at least one batch")
    gm = normal_form(model, leaf_modules, images if example_inputs is None else example_inputs)
    if gm.meta.get("offences"):
        raise UnconvertibleError(gm.meta["offences"])
    gm.eval()
    observers, handles = {}, []
    for node, module in calls(gm, nn.ReLU, nn.Hardtanh):
        if relu_bound(module) is None:
            continue
        axis = channel_axis(gm, node.args[0]) if per_channel else None
        observers[node.target] = METHODS[method](axis)
        handles.append(
            module.register_forward_hook(lambda _m, _i, out, o=observers[node.target]: o.see(out))
        )
    weight = next(gm.parameters())
    with torch.no_grad():
        for batch in loader:
            gm(batch_images(batch).to(weight.device, weight.dtype))
    return {name: observer.value(name) for name, observer in observers.items()}


def batch_images(batch) -> Tensor:
    """The images of a batch: a tensor, or the first of a pair."""
    images = batch[0] if isinstance(batch, (tuple, list)) else batch
    if not isinstance(images, Tensor):
        raise ValueError(
            f"the loader gives a {type(images).__name__}; it must give tensors "
            "[B, C, H, W] or (tensor, label) pairs"
        )
    return images


class LargestActivation:
    """Streaming maximum, one value a channel (axis 1 or -1) or one in all (None)."""

    def __init__(self, axis: int | None):
        self.axis = axis
        self.largest: Tensor | None = None

    def see(self, x: Tensor) -> None:
        largest = (
            x.amax().reshape(1)
            if self.axis is None
            else x.movedim(self.axis, -1).flatten(0, -2).amax(0)
        )
        self.largest = largest if self.largest is None else torch.maximum(self.largest, largest)

    def value(self, name: str) -> Tensor:
        if self.largest is None or not bool(self.largest.isfinite().all()):
            raise ValueError(
                f"the activations of site {name!r} are NaN or infinite; check the "
                "network and its input normalisation"
            )
        return self.largest


METHODS = {"max": LargestActivation}
