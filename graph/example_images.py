"""Images that a model runs on, where the caller gives none."""

import contextlib
import logging
from collections.abc import Iterator

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from .copying import about
from .errors import FAILURES

USUAL_SIZES = (224, 64, 32, 28)


def guess_example(model: nn.Module) -> torch.Tensor | None:
    """One image of the size that the model was made for, if it says so, else None."""
    size = None
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


CHECKED_SIZES = (64, 32, 28, 224)
LARGEST_SIZE = 256


def possible_shapes(model: nn.Module) -> Iterator[tuple[int, ...]]:
    """Shapes of two images that a model may run on: usual sizes, then any up to 256 pixels or tokens.

    The first layer with weights tells channels and axes. Beyond the usual sizes only those are given
    on which the model runs without values (shapes alone, which costs little).
    """
    layers = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    first = next((m for m in model.modules() if isinstance(m, layers)), None)
    if first is None:
        return
    if isinstance(first, nn.Linear):
        usual, axes = [(2, first.in_features)], 1
    else:
        axes = len(first.kernel_size)
        usual = [(2, first.in_channels, *[size] * axes) for size in CHECKED_SIZES]
    yield from usual
    for size in range(1, LARGEST_SIZE + 1):
        sides = [size] * axes
        linear = isinstance(first, nn.Linear)
        shape = (2, *sides, first.in_features) if linear else (2, first.in_channels, *sides)
        if shape not in usual and _runs_on(model, shape):
            yield shape


def _runs_on(model: nn.Module, shape: tuple[int, ...]) -> bool:
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake, torch.no_grad(), quiet():
        images = like_weights(model, torch.zeros(shape))
        with contextlib.suppress(*FAILURES):
            model(images)
            return True
    return False


@contextlib.contextmanager
def quiet():
    """torch logs at length what an operation on fake tensors refuses; we only take note."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def like_weights(model: nn.Module, example: torch.Tensor) -> torch.Tensor:
    """The example on the device and of the type of the model's weights."""
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    return example if weight is None else example.to(weight.device, weight.dtype)
