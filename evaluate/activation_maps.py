"""Where a network looks: spike activation maps over time, and ScoreCAM of the ANN.

Spike activation map (Y. Kim, P. Panda, "Visual explanations from spiking neural networks using
inter-spike intervals", Scientific Reports 2021): M[h, w](t) = sum over channels of S(t) N(t), with
S(t) the spike of this step and N(t) = sum over earlier spikes t' of exp(-gamma (t - t')).

ScoreCAM (H. Wang et al., "Score-CAM: score-weighted visual explanations for convolutional neural
networks", CVPR Workshops 2020): each channel map, enlarged and brought to [0, 1], masks the image;
the softmax over channels of the target logits of the masked images weighs the maps.
"""

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional

from .watching import Run, as_maps

GAMMA = 0.5  # decay of a spike's weight, per step
CHANNELS = 256  # that ScoreCAM looks at: the most active ones
_BATCH = 32


@dataclasses.dataclass
class Maps:
    """Maps of the first image, each [h, w] in [0, 1].

    Attributes:
        site: the layer.
        image: [C, H, W].
        label: its class, if known.
        steps: time steps of `spikes`.
        spikes: spike activation maps at these steps.
        score_cam: of the ANN, or None.
        target: the class that ScoreCAM explains: the ANN's answer.
    """

    site: str
    image: Tensor
    label: int | None
    steps: list[int]
    spikes: list[Tensor]
    score_cam: Tensor | None = None
    target: int | None = None


def spike_activation_maps(spikes: Tensor, gamma: float = GAMMA) -> Tensor:
    """[T, C, h, w] numbers of spikes -> [T, h, w]; the first step has no earlier spikes: zeros."""
    earlier = torch.zeros_like(spikes[0])
    maps, decay = [], float(torch.exp(torch.tensor(-gamma, dtype=torch.float64)))
    for step in spikes:
        maps.append((step * earlier).sum(0))
        earlier = (earlier + step) * decay
    return torch.stack(maps)


def score_cam(
    network,
    site: str,
    image: Tensor,
    axis: int,
    target: int | None = None,
    channels: int = CHANNELS,
) -> tuple[Tensor, int]:
    """ScoreCAM of one image.

    Args:
        network: image [B, C, H, W] -> logits [B, classes].
        site: name of the layer, which gives [B, C, h, w], [B, h, w, C] or [B, N, C].
        image: [C, H, W].
        axis: 1 or -1: where the layer's channels lie.
        target: class to explain (default: the network's answer).
        channels: at most so many, the most active ones.

    Returns:
        (map [h, w] >= 0, target).
    """
    kept: list[Tensor] = []
    handle = network.get_submodule(site).register_forward_hook(
        lambda module, args, out: kept.append(out.detach())
    )
    try:
        logits = network(image[None])
    finally:
        handle.remove()
    target = int(logits[0].argmax()) if target is None else target
    maps = as_maps(kept[0], axis)[0]  # [C, h, w]
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    varied = (high > low).flatten().nonzero().flatten()
    if len(varied) == 0:
        return torch.zeros(maps.shape[1:]), target
    order = maps[varied].abs().mean((1, 2)).argsort(descending=True)[:channels]
    maps, low, high = (x[varied[order]] for x in (maps, low, high))
    large = functional.interpolate(
        ((maps - low) / (high - low))[None], image.shape[-2:], mode="bilinear", align_corners=False
    )[0]
    scores = torch.cat([network(image * part[:, None])[:, target] for part in large.split(_BATCH)])
    weights = scores.double().softmax(0).to(maps)
    return (weights[:, None, None] * maps).sum(0).clamp(min=0).cpu(), target


def shown_steps(total: int, count: int = 5) -> list[int]:
    """Five steps from early to T, doubling where there is room: 8, 16, 32, 64, 128."""
    steps = {max(2, round(total / 2**k)) for k in range(count)}
    return sorted(step for step in steps if step <= total)


def explain(run: Run, ann, images: Tensor, labels) -> tuple[Maps | None, str]:
    """(maps of the first image, "") or (None, why there are none)."""
    if run.map_spikes is None:
        return None, "maps: no neuron layer has places (at least 4 x 4)"
    image = images[0]
    if image.dim() != 3:
        return None, "maps: the images are event frames"
    steps = shown_steps(run.steps)
    maps = spike_activation_maps(run.map_spikes)
    found = Maps(
        run.map_site,
        image.cpu(),
        None if labels is None else int(labels[0]),
        steps,
        [_to_one(maps[step - 1]) for step in steps],
    )
    if ann is not None:
        try:
            ann.get_submodule(run.map_site)
        except AttributeError:
            return found, f"ScoreCAM: the ANN has no module called {run.map_site}"
        cam, found.target = score_cam(ann, run.map_site, image, run.map_axis)
        found.score_cam = _to_one(cam)
    return found, ""


def _to_one(x: Tensor) -> Tensor:
    top = float(x.max())
    return (x / top if top > 0 else x).float()
