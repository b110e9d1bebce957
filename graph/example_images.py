"""Images that a model runs on, where the caller gives none."""

from collections.abc import Iterator

import torch
from torch import fx, nn

from .copying import about

USUAL_SIZES = (224, 64, 32, 28)


def guess_example(model: nn.Module) -> torch.Tensor | None:
    """One image of the size that the model was made for, if it says so, else None."""
    size = None
    if isinstance(model, fx.GraphModule) and model.meta.get("image_shape"):
        return like_weights(model, torch.zeros(1, *model.meta["image_shape"]))
    config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    if isinstance(config, dict) and config.get("input_size"):
        size = tuple(config["input_size"])
    elif {"img_size", "in_chans"} <= about(model).keys():
        known = about(model)
        size = (known["in_chans"], known["img_size"], known["img_size"])
    if size is None:
        return None
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None and config:
        size = (first.in_channels, *size[1:])
    return like_weights(model, torch.zeros(1, *size))


def usual_images(model: nn.Module) -> Iterator[torch.Tensor]:
    """For a network that says nothing of its size and whose control flow asks for it."""
    first = next((m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))), None)
    for size in USUAL_SIZES if isinstance(first, nn.Conv2d) else ():
        yield like_weights(model, torch.zeros(1, first.in_channels, size, size))


def like_weights(model: nn.Module, example: torch.Tensor) -> torch.Tensor:
    """The example on the device and of the type of the model's weights."""
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    return example if weight is None else example.to(weight.device, weight.dtype)
