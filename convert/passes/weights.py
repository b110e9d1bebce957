"""Passes: every call of a layer has a plain weight and a bias of its own."""

import copy

from torch import fx, nn
from torch.nn.utils import parametrize

from ...graph.surgery import add_module, calls, finish
from ...neurons import ChannelAffine
from ...ops import BATCH_NORMS, WEIGHT_LAYERS


def bake_reparametrisations(gm: fx.GraphModule) -> int:
    """Weight norm, spectral norm and other parametrisations become plain tensors."""
    changed = 0
    for _, module in calls(gm, nn.Module):
        if parametrize.is_parametrized(module):
            values = {
                name: getattr(module, name).detach().clone() for name in module.parametrizations
            }
            # by hand: torch's remover edits the class, which copies of the model share
            module.__class__ = parametrize.type_before_parametrizations(module)
            del module._modules["parametrizations"]
            for name, value in values.items():
                module._parameters[name] = nn.Parameter(value, requires_grad=False)
            changed += 1
        for key, hook in list(module._forward_pre_hooks.items()):
            if type(hook).__name__ in ("WeightNorm", "SpectralNorm"):
                hook.remove(module)
                del module._forward_pre_hooks[key]
                weight = getattr(module, hook.name).detach()
                module._parameters[hook.name] = nn.Parameter(weight, requires_grad=False)
                module.__dict__.pop(hook.name, None)
                changed += 1
    return finish(gm, changed)


def split_shared_layers(gm: fx.GraphModule) -> int:
    """A layer that is called at several places gets a module for each call; weights stay shared."""
    changed, seen = 0, set()
    for node, module in calls(gm, *WEIGHT_LAYERS, *BATCH_NORMS, ChannelAffine):
        if node.target in seen:
            twin = copy.copy(module)
            twin._parameters, twin._buffers = dict(module._parameters), dict(module._buffers)
            twin._modules = {}
            node.target = add_module(gm, node.target, twin)
            changed += 1
        seen.add(node.target)
    return finish(gm, changed)
