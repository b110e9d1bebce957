"""Does an image's answer depend on its company in the batch?

Membranes that leak from image to image (time folded into the batch in front of a neuron),
statistics over the batch, and state that outlives a call all change an answer with the batch that
it is asked in. Published spiking transformers lose points when their images are evaluated alone.
"""

import copy
import logging

import torch
from torch import Tensor, nn

from .calling import Caller

logger = logging.getLogger(__name__)

IMAGES = 4
STEPS = 8  # a leak shows in the second step already, a deep network's logits take a few more
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}


def check_independence(
    caller: Caller, images: Tensor, first_index: int, masked: bool = False
) -> bool | str:
    """True, or a text that says how many logits differ and by how much.

    The check runs in float64 on a copy where the model can be copied, so that rounding, and the few
    spikes that rounding flips, raise no alarm.

    Args:
        caller: the model.
        images: a batch [B, ...]; its first images are used.
        first_index: number of the first one.
        masked: the network has masks that belong to image numbers, so images keep their places.
    """
    probe, images = _in_float64(caller, images[:IMAGES])
    found = _compare(probe, images, first_index, masked)
    if found is None:
        return True
    # A value on the edge of a threshold may flip with the last bit; a leak stays where it is.
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(images.shape, generator=generator, dtype=torch.float64)
    found = _compare(probe, images * (1 + 1e-3 * noise).to(images), first_index, masked)
    return True if found is None else found


def _in_float64(caller: Caller, images: Tensor) -> tuple[Caller, Tensor]:
    timesteps = caller.timesteps
    if timesteps is not None and images.dim() != 5:
        timesteps = min(timesteps, STEPS)
    probe = Caller(caller.model, timesteps, caller.chunk)
    probe.kind = caller.kind
    if isinstance(caller.model, nn.Module) and images.is_floating_point():
        try:
            probe.model = copy.deepcopy(caller.model).double().eval()
            probe(images[:1].double(), 0)
            return probe, images.double()
        except (RuntimeError, TypeError, NotImplementedError) as error:
            logger.info("independence is checked in the model's own precision: %s", error)
    probe.model = caller.model
    return probe, images


def _compare(probe: Caller, images: Tensor, first: int, masked: bool) -> str | None:
    """None if all answers agree; otherwise what does not, in words."""
    together = probe(images, first)
    checks = {
        "in two equal calls": probe(images, first),
        "alone": torch.cat([probe(images[i : i + 1], first + i) for i in range(len(images))], -2),
    }
    if len(images) > 1:
        checks["in other company"] = _in_other_company(probe, images, first)
        if not masked:
            checks["in another order"] = probe(images.flip(0), first).flip(-2)
    scale = max(1.0, float(together.abs().max()))
    tolerance = _TOLERANCE.get(images.dtype, 1e-2) * scale
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
        if images.dtype == torch.float64
        else (" (in the model's own precision, in which rounding may flip spikes)")
    )
    return (
        f"no: {differing} of {together.numel()} logits differ, by up to {worst:.3g}, when "
        f"{len(images)} images are evaluated {', '.join(how)}{hint}"
    )


def _in_other_company(probe: Caller, images: Tensor, first: int) -> Tensor:
    """Each image's answer beside images that are not those of its batch, at its place."""
    mirrored = images.flip(-1)
    even = torch.arange(len(images), device=images.device) % 2 == 0
    shape = (-1, *[1] * (images.dim() - 1))
    with_even = probe(torch.where(even.view(shape), images, mirrored), first)
    with_odd = probe(torch.where(even.view(shape), mirrored, images), first)
    return torch.where(even[:, None], with_even, with_odd)
