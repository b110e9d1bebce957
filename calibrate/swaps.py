"""Swaps before training: layer norms to batch norms, GELU to ReLU.

A batch norm becomes an affine current when the network is converted and a ReLU becomes a neuron; layer
norm and GELU convert too (`sites="all"`), as analog operations on running values.
"""

import torch
from torch import nn

from ..graph.copying import copy_model
from ..graph.inputs import input_names
from ..models.swin_bn import TokenBatchNorm
from ..ops import module_operation
from ..support.precision import full_precision
from ..support.structure import inputs_of
from .batches import Batches


@full_precision
@torch.no_grad()
def swap_norm(model: nn.Module, loader=None) -> nn.Module:
    """A copy in which every layer norm over the channels is a batch norm.

    One over the last axis becomes a batch norm over tokens, one of images [B, C, H, W] over C (as in
    ConvNeXt) an ordinary one.

    Scale and offset are kept; the statistics come from `loader`, in one pass in which each norm sees
    what the norms before it give. The result is a start for training with `insert_qcfs`, not a
    replacement that keeps the accuracy.

    Args:
        model: a network with `nn.LayerNorm(C)`, or a class made of it; it is not changed.
        loader: batches of images, or of (images, labels); None leaves mean 0 and variance 1.

    Raises:
        ValueError: no layer norm over one axis to swap.
    """
    copy = copy_model(model)
    norms = []
    for name, module in list(copy.named_modules()):
        if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
            norm = _batch_norm_of(module)
            parent, _, last = name.rpartition(".")
            setattr(copy.get_submodule(parent), last, norm)
            norms.append(norm)
    if not norms:
        raise ValueError(f"{type(model).__name__} has no nn.LayerNorm over one axis to swap")
    if loader is not None:
        copy.eval()
        for norm in norms:
            norm.train()
        for images in Batches(loader, input_names(model)):
            copy(*inputs_of(images))
    for norm in norms:
        norm.momentum = 0.1
    return copy.train(model.training)


def _batch_norm_of(layer_norm: nn.LayerNorm) -> nn.Module:
    channels = layer_norm.normalized_shape[0]
    make = nn.BatchNorm2d if _channels_first(layer_norm) else TokenBatchNorm
    norm = make(channels, eps=layer_norm.eps, momentum=None, affine=layer_norm.elementwise_affine)
    if layer_norm.elementwise_affine:
        norm.weight.copy_(layer_norm.weight)
        if layer_norm.bias is not None:
            norm.bias.copy_(layer_norm.bias)
        norm.to(layer_norm.weight)
    return norm


def _channels_first(layer_norm: nn.LayerNorm) -> bool:
    """Whether a subclass normalises [B, C, H, W] over C; torch's own takes [..., C] alone."""
    channels = layer_norm.normalized_shape[0]
    weight = layer_norm.weight
    image = torch.zeros(1, channels, 1, channels + 1)
    try:
        layer_norm(image if weight is None else image.to(weight))
    except RuntimeError:
        return False
    return True


def swap_gelu(model: nn.Module) -> nn.Module:
    """A copy in which every GELU module, exact or approximated, is a ReLU.

    Raises:
        ValueError: no GELU module to swap.
    """
    copy = copy_model(model)
    found = [
        name for name, m in copy.named_modules() if name and module_operation(m).name == "gelu"
    ]
    for name in found:
        parent, _, last = name.rpartition(".")
        setattr(copy.get_submodule(parent), last, nn.ReLU())
    if not found:
        raise ValueError(f"{type(model).__name__} has no GELU module to swap")
    return copy


SWAPS = {  # name in a recipe -> (model, loader) -> model
    "norm": swap_norm,
    "gelu": lambda model, loader=None: swap_gelu(model),
}
