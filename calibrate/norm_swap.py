"""Layer norms to batch norms: what a conversion can turn into an affine current."""

import torch
from torch import nn

from ..graph.copying import copy_model
from ..graph.inputs import input_names
from ..models.swin_bn import TokenBatchNorm
from ..support.autocast import without_autocast
from ..support.structure import inputs_of
from .batches import Batches


@without_autocast
@torch.no_grad()
def swap_norm(model: nn.Module, loader=None) -> nn.Module:
    """A copy in which every layer norm over the last axis is a batch norm over tokens.

    Scale and offset are kept; the statistics come from `loader`, in one pass in which each norm sees
    what the norms before it give. The result is a start for training with `insert_qcfs`, not a
    replacement that keeps the accuracy.

    Args:
        model: a network with `nn.LayerNorm(C)` on [..., C]; it is not changed.
        loader: batches of images, or of (images, labels); None leaves mean 0 and variance 1.

    Raises:
        ValueError: no layer norm over one axis to swap.
    """
    copy = copy_model(model)
    norms = []
    for name, module in list(copy.named_modules()):
        if type(module) is nn.LayerNorm and len(module.normalized_shape) == 1:
            norm = TokenBatchNorm(
                module.normalized_shape[0],
                eps=module.eps,
                momentum=None,
                affine=module.elementwise_affine,
            )
            if module.elementwise_affine:
                norm.weight.copy_(module.weight)
                if module.bias is not None:
                    norm.bias.copy_(module.bias)
                norm.to(module.weight)
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
