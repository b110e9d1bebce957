"""The network that a training starts from: random or given weights, swaps, thresholds from data."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from ..calibrate import SWAPS, activation_thresholds
from .initial_weights import load_initial_weights
from .network import build_network, plain_network, with_sites

PRETRAINED = "pretrained"


def start_network(build: dict, init: str, images: Callable[[], Tensor]) -> nn.Module:
    """What `build` describes, ready to be trained.

    Weights are read before any swap, so that those of a network with layer norms and GELU fit. Norms
    that are swapped get their statistics from the images; a threshold of 0 asks for thresholds from
    the images, one per site, of the least mean square error.

    Args:
        build: see `build_network`.
        init: file of weights, "pretrained" (those of timm or torchvision), or "" for random ones.
        images: gives training images [N, C, H, W]; called where they are needed.

    Raises:
        ValueError: weights that are none or of another architecture, a swap that finds nothing.
    """
    measured = build["levels"] is not None and build["threshold"] == 0
    swaps = build.get("swaps", ()) if init else ()
    if init == PRETRAINED and "source" not in build:
        raise ValueError(
            "TRAIN.INIT pretrained needs a network of a library: MODEL.SOURCE timm or torchvision; "
            "give a file of weights for one of ours"
        )
    if not (measured or swaps or init == PRETRAINED):
        model = build_network(build)
        if init:
            load_initial_weights(model, Path(init), build["num_classes"])
        return model
    model = plain_network(build, pretrained=init == PRETRAINED)
    if init and init != PRETRAINED:
        load_initial_weights(model, Path(init), build["num_classes"])
    batches = images().split(50)
    for name in build.get("swaps", ()):
        model = SWAPS[name](model, batches)
    thresholds = None
    if measured:
        thresholds = activation_thresholds(
            model.eval(),
            batches,
            method="mse",
            levels=build["levels"],
            per_channel=False,
            sites=build.get("sites", "relu"),
        )
    return with_sites(model, build, thresholds).train()
