"""Passes: batch norms go into the layer before them, or become an affine current."""

import torch
from torch import fx, nn

from ...graph.surgery import calls, erase, finish, set_module
from ...neurons import ChannelAffine
from ...ops import BATCH_NORMS, module_of

FOLDABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def scale_and_offset(norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Eval-mode batch norm as x * scale + offset, both [C] in float64."""
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    offset = -norm.running_mean.double() * scale
    if norm.bias is not None:
        offset = offset + norm.bias.detach().double()
    return scale, offset


def fold_batch_norms(gm: fx.GraphModule) -> int:
    """conv -> norm and linear -> norm become one layer with a bias (each is called once)."""
    changed = 0
    for node, norm in calls(gm, *BATCH_NORMS):
        before = node.args[0]
        layer = module_of(gm, before)
        if not _folds(before, layer, norm):
            continue
        scale, offset = scale_and_offset(norm)
        weight = layer.weight.detach().double()
        new = weight * scale.view(-1, *[1] * (weight.dim() - 1))
        bias = offset if layer.bias is None else layer.bias.detach().double() * scale + offset
        bias = bias.to(layer.weight)
        layer.weight = nn.Parameter(new.to(layer.weight), requires_grad=False)
        layer.bias = nn.Parameter(bias, requires_grad=False)
        before.meta["value_of"] = node.meta.get("value_of")
        erase(node, before)
        changed += 1
    return finish(gm, changed)


def _folds(before: fx.Node, layer, norm: nn.Module) -> bool:
    if not isinstance(layer, FOLDABLE) or len(before.users) > 1:
        return False
    if isinstance(layer, nn.Linear):
        flat = len(before.meta.get("shape") or ()) == 2
        return getattr(norm, "channel_axis", 1) == -1 or flat
    return getattr(norm, "channel_axis", 1) == 1


def norms_to_affine(gm: fx.GraphModule) -> int:
    """Every batch norm that is left becomes scale and offset along its channel axis."""
    changed = 0
    for node, norm in calls(gm, *BATCH_NORMS):
        scale, offset = scale_and_offset(norm)
        like = norm.running_mean
        affine = ChannelAffine(scale.to(like), offset.to(like), getattr(norm, "channel_axis", 1))
        children = dict(norm.named_children())  # a fused activation keeps its place in the tree
        set_module(gm, node.target, affine)
        for name, child in children.items():
            affine.add_module(name, child)
        changed += 1
    return finish(gm, changed)
