"""Loss of a classifier, for one logit vector per image and for one per time step."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def classifier_loss(
    output: Tensor, target: Tensor, label_smoothing: float = 0.0, tet_weight: float | None = None
) -> Tensor:
    """Cross entropy.

    Args:
        output: logits [B, C], or one set per step [T, B, C] (direct-trained spiking networks).
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
    steps = torch.stack(
        [F.cross_entropy(step, target, label_smoothing=smoothing) for step in output]
    )
    return (1 - tet_weight) * steps.mean() + tet_weight * F.mse_loss(
        output, torch.ones_like(output)
    )


def count_correct(output: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Images whose label has the largest logit, and one of the five largest ([B,C] or [T,B,C])."""
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


class Objective:
    """What a batch is trained on: mixing, then the loss (arguments as in `train_classifier`)."""

    def __init__(
        self,
        label_smoothing: float = 0.0,
        tet_weight: float | None = None,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        num_classes: int | None = None,
        mix_prob: float = 1.0,
        mix_switch: float = 0.5,
        mix_off_epoch: int = 0,
    ):
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label smoothing {label_smoothing} must be in [0, 1), e.g. 0.1")
        self.label_smoothing, self.tet_weight = label_smoothing, tet_weight
        self.mixing = _mixing(mixup, cutmix, label_smoothing, num_classes, mix_prob, mix_switch)
        self.mix_off_epoch = mix_off_epoch

    @property
    def mixes(self) -> bool:
        """Whether batches are mixed in this epoch."""
        return self.mixing is not None and self.mixing.mixup_enabled

    def start_epoch(self, number: int) -> None:
        """Epoch `number` (from 1) begins; mixing stops after epoch `mix_off_epoch` (0: never)."""
        if self.mixing is not None:
            self.mixing.mixup_enabled = not 0 < self.mix_off_epoch < number

    def mix(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images and targets; timm mixes pairs, so an odd batch gives up its last image."""
        if self.mixing is None:
            return images, labels
        even = len(images) - len(images) % 2
        return self.mixing(images[:even], labels[:even])

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """The scalar that is trained on."""
        return classifier_loss(output, target, self.label_smoothing, self.tet_weight)


def _mixing(mixup, cutmix, label_smoothing, num_classes, prob, switch):
    if mixup < 0 or cutmix < 0:
        raise ValueError(f"mixup {mixup} and cutmix {cutmix} must not be negative; 0 is off")
    for name, value in (("mix_prob", prob), ("mix_switch", switch)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} {value} must be a probability, from 0 to 1")
    if not mixup and not cutmix:
        return None
    if num_classes is None:
        raise ValueError("mixup and cutmix mix class probabilities; give num_classes")
    from timm.data import Mixup  # takes seconds, and is for training alone

    return Mixup(
        mixup_alpha=mixup,
        cutmix_alpha=cutmix,
        prob=prob,
        switch_prob=switch,
        label_smoothing=label_smoothing,
        num_classes=num_classes,
    )
