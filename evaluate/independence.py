"""Does an image's answer depend on its company in the batch?

Membranes that leak from image to image (time folded into the batch in front of a neuron),
statistics over the batch, and state that outlives a call all change an answer with the batch that
it is asked in. Published spiking transformers lose points when their images are evaluated alone.
"""

import copy
import logging

import torch
from torch import Tensor, nn

from ..support.structure import inputs_of
from .calling import Caller

logger = logging.getLogger(__name__)

IMAGES = 4
STEPS = 8  # a leak shows in the second step already, a deep network's logits take a few more
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}


def check_independence(
    caller: Caller, images, first_index: int, masked: bool = False
) -> bool | str:
    """True, or a text that says how many logits differ and by how much.

    The check runs in float64 on a copy where the model can be copied, so that rounding, and the few
    spikes that rounding flips, raise no alarm.

    Args:
        caller: the model.
        images: a batch [B, ...], or a tuple of them; its first images are used.
        first_index: number of the first one.
        masked: the network has masks that belong to image numbers, so images keep their places.
    """
    probe, images = _in_float64(caller, [x[:IMAGES] for x in inputs_of(images)])
    found = _compare(probe, images, first_index, masked)
    if found is None:
        return True
    # A value on the edge of a threshold may flip with the last bit; a leak stays where it is.
    generator = torch.Generator().manual_seed(0)
    noise = [torch.rand(x.shape, generator=generator, dtype=torch.float64) for x in images]
    pairs = zip(images, noise, strict=True)
    moved = [x * (1 + 1e-3 * part).to(x) for x, part in pairs]
    found = _compare(probe, moved, first_index, masked)
    return True if found is None else found


def _in_float64(caller: Caller, images: list[Tensor]) -> tuple[Caller, list[Tensor]]:
    timesteps = caller.timesteps
    if timesteps is not None and images[0].dim() != 5:
        timesteps = min(timesteps, STEPS)
    probe = Caller(caller.model, timesteps, caller.chunk, caller.task, caller.output)
    probe.kind = caller.kind
    if isinstance(caller.model, nn.Module) and all(x.is_floating_point() for x in images):
        try:
            probe.model = copy.deepcopy(caller.model).double().eval()
            probe([x[:1].double() for x in images], 0)
            return probe, [x.double() for x in images]
        except (RuntimeError, TypeError, NotImplementedError) as error:
            logger.info("independence is checked in the model's own precision: %s", error)
    probe.model = caller.model
    return probe, images


def _asked(probe: Caller, images: list[Tensor], first: int) -> Tensor:
    """All that the model gives of each image in one row, [..., B, values]."""
    outputs = probe(images, first)
    fixed = 1 if probe.kind == "ann" else 2
    return torch.cat([x.reshape(*x.shape[:fixed], -1).double() for x in outputs], -1)


def _compare(probe: Caller, images: list[Tensor], first: int, masked: bool) -> str | None:
    """None if all answers agree; otherwise what does not, in words."""
    together, count = _asked(probe, images, first), len(images[0])
    alone = [_asked(probe, [x[i : i + 1] for x in images], first + i) for i in range(count)]
    checks = {
        "in two equal calls": _asked(probe, images, first),
        "alone": torch.cat(alone, -2),
    }
    if count > 1:
        checks["in other company"] = _in_other_company(probe, images, first)
        if not masked:
            turned = _asked(probe, [x.flip(0) for x in images], first)
            checks["in another order"] = turned.flip(-2)
    scale = max(1.0, float(together.abs().max()))
    tolerance = _TOLERANCE.get(images[0].dtype, 1e-2) * scale
    differing, worst, how = 0, 0.0, []
    for name, other in checks.items():
        distance = (other - together).abs()
        if float(distance.max()) > tolerance:
            differing = max(differing, int((distance > tolerance).sum()))
            worst = max(worst, float(distance.max()))
            how.append(name)
    if not how:
        return None
    hint = (
        ""
        if images[0].dtype == torch.float64
        else (" (in the model's own precision, in which rounding may flip spikes)")
    )
    return (
        f"no: {differing} of {together.numel()} logits differ, by up to {worst:.3g}, when "
        f"{count} images are evaluated {', '.join(how)}{hint}"
    )


def _in_other_company(probe: Caller, images: list[Tensor], first: int) -> Tensor:
    """Each image's answer beside images that are not those of its batch, at its place."""
    even = torch.arange(len(images[0]), device=images[0].device) % 2 == 0
    masks = [even.view(-1, *[1] * (x.dim() - 1)) for x in images]
    pairs = [(x, x.flip(-1), mask) for x, mask in zip(images, masks, strict=True)]
    with_even = _asked(probe, [torch.where(mask, x, other) for x, other, mask in pairs], first)
    with_odd = _asked(probe, [torch.where(mask, other, x) for x, other, mask in pairs], first)
    return torch.where(even[:, None], with_even, with_odd)
