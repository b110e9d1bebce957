"""Copies of the caller's model, which stays as it was."""

import copy

import torch
from torch import fx, nn


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside its data-parallel or torch.compile wrapper; ValueError for what is none."""
    while isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)) or (
        type(model).__name__ == "OptimizedModule"
    ):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    if not isinstance(model, nn.Module):
        raise ValueError(f"a {type(model).__name__} is no model; give a torch.nn.Module")
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            "a scripted or traced (torch.jit) module has no Python source to convert; give the "
            "torch.nn.Module that it was made of"
        )
    return model


def copy_model(model: nn.Module) -> nn.Module:
    """A deep copy without the user's hooks, also of a model that weight norm left tensors in."""
    computed = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in module.__dict__.values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }
    model = copy.deepcopy(model, computed)
    remove_hooks(model)
    return model


def remove_hooks(model: nn.Module) -> None:
    """Take the user's forward and backward hooks off a copy; they would see proxies."""
    for module in model.modules():
        for hooks in (module._forward_hooks, module._backward_hooks, module._backward_pre_hooks):
            hooks.clear()
        for key, hook in list(module._forward_pre_hooks.items()):
            if type(hook).__name__ not in ("WeightNorm", "SpectralNorm"):
                del module._forward_pre_hooks[key]


def about(model: nn.Module) -> dict:
    """What a model says of itself: mask_sites, img_size, in_chans, num_classes, model_name.

    It travels in the `meta` of a GraphModule, which deep copies keep (attributes they do not).
    """
    if isinstance(model, fx.GraphModule) and "about" in getattr(model, "meta", {}):
        return model.meta["about"]
    names = ("mask_sites", "img_size", "in_chans", "num_classes", "model_name")
    return {
        name: getattr(model, name)
        for name in names
        if isinstance(getattr(model, name, None), (int, str, list, tuple))
    }
