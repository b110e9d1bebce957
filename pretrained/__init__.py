"""Trained networks in the box: run folders that come with the package."""

from .networks import list_pretrained, load_pretrained, pretrained_card, pretrained_run

__all__ = ["list_pretrained", "load_pretrained", "pretrained_card", "pretrained_run"]
