"""Architectures, one family a file, and adapters for published checkpoints."""

from . import mst, resnet, swin_bn, vgg
from .checkpoint_file import read_checkpoint
from .published import load_published
from .registry import create_model, list_models

__all__ = ["create_model", "list_models", "load_published", "read_checkpoint"]
