"""Accuracy of a network in eval mode (masks of a trainable network at their expectation)."""

import torch
from torch import nn

from ..distributed import sum_over_processes
from .objective import classifier_loss, count_correct


@torch.no_grad()
def classification_accuracy(model: nn.Module, loader, device="cpu") -> dict:
    """Loss and accuracy in eval mode; the model's training flag is restored.

    Args:
        model: gives logits [B, classes], or a readout after each step [T, B, classes], of which
            the last counts.
        loader: batches (images [B, ...], labels [B]); with several processes each gives its own
            shard and the sums are exact.

    Returns: {"images", "loss" (nats), "top1", "top5" (percent)}.

    Raises:
        ValueError: no images.
    """
    was_training = model.training
    model.eval()
    images_seen = first = five = 0
    loss = 0.0
    try:
        for images, labels in loader:
            labels = labels.to(device)
            output = model(images.to(device))
            output = output[-1] if output.dim() == 3 else output
            hits_first, hits_five = count_correct(output, labels)
            images_seen += len(labels)
            first += int(hits_first)
            five += int(hits_five)
            loss += float(classifier_loss(output, labels)) * len(labels)
    finally:
        model.train(was_training)
    total = sum_over_processes({"images": images_seen, "first": first, "five": five, "loss": loss})
    if total["images"] == 0:
        raise ValueError("the accuracy of no images was asked for; give a loader with images")
    return {
        "images": total["images"],
        "loss": total["loss"] / total["images"],
        "top1": 100 * total["first"] / total["images"],
        "top5": 100 * total["five"] / total["images"],
    }
