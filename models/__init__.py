"""Architectures, one family per file, and adapters for published checkpoints."""

from . import cifar10_snn, mst, resnet, sdt, spikingformer, spikingresformer, swin_bn, vgg
from .published import load_published
from .registry import create_model, is_direct, list_models

__all__ = ["create_model", "is_direct", "list_models", "load_published"]
