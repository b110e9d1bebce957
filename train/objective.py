"""Loss of a classifier, for one logit vector an image and for one a time step."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def classifier_loss(output: Tensor, target: Tensor, label_smoothing: float = 0.0,
                    tet_weight: float | None = None) -> Tensor:
    """Cross entropy.

    Args:
        output: logits [B, C], or one set a step [T, B, C] (direct-trained spiking networks).
        target: labels [B], or class probabilities [B, C] (mixup; smoothed already).
        label_smoothing: share of the target spread over all classes, for labels.
        tet_weight: None: cross entropy of the mean over T. A number w: the TET loss,
            (1 - w) times the mean of the steps' cross entropies + w times the mean square
            distance of all outputs from 1 (S. Deng et al., ICLR 2022).

    Returns: scalar, the mean over the batch.
    """
    smoothing = 0.0 if target.is_floating_point() else label_smoothing
    if output.dim() == 2:
        return F.cross_entropy(output, target, label_smoothing=smoothing)
    if tet_weight is None:
        return F.cross_entropy(output.mean(0), target, label_smoothing=smoothing)
    steps = torch.stack([F.cross_entropy(step, target, label_smoothing=smoothing)
                         for step in output])
    return (1 - tet_weight) * steps.mean() + tet_weight * F.mse_loss(output, torch.ones_like(output))


def count_correct(output: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Images whose label is the first, and among the first five, of the logits ([B,C] or [T,B,C])."""
    logits = output.mean(0) if output.dim() == 3 else output
    best = logits.topk(min(5, logits.shape[-1]), dim=-1).indices
    hits = best == labels.unsqueeze(-1)
    return hits[:, 0].sum(), hits.any(-1).sum()


class StepLogits(nn.Module):
    """Makes `model.step_logits(images)` -> [T, B, C] the forward call (so that DDP sees it)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.step_logits(images)
