"""Passes: activations to QCFS, QCFS to clipped ReLU or to spiking neurons."""

import torch
from torch import fx, nn

from ...graph.layout import channel_axis
from ...graph.planned_sites import open_sites
from ...graph.surgery import calls, finish, set_module
from ...neurons import NEURONS, QCFS, PlannedSite
from ...ops import relu_bound
from ...support.messages import near_names


def open_sites_to_qcfs(
    gm: fx.GraphModule, levels: int, threshold: float, thresholds: dict[str, torch.Tensor] | None
) -> int:
    """Every ReLU and every planned site becomes a QCFS of the same name.

    Clipped ReLUs keep their bound as a limit of the threshold; a site that follows another one takes
    over its threshold.

    Args:
        threshold: starting threshold of all sites, one value per site.
        thresholds: {site: tensor}, which replaces `threshold` at every site.
    """
    found = open_sites(gm)
    if thresholds is not None:
        fixed_size = bool(gm.meta.get("fixed_image_size"))
        _check_names(thresholds, [node.target for node, _ in found], fixed_size)
    for node, module in found:
        axis = channel_axis(gm, node.args[0])
        value = threshold if thresholds is None else thresholds[node.target]
        value = torch.as_tensor(value).detach().to(_weight_of(gm))
        planned = isinstance(module, PlannedSite)
        if not planned:
            value = value.clamp(max=relu_bound(module))
        site = QCFS(levels, value, -1 if axis is None else axis, planned and module.signed)
        if planned and module.follows is not None:
            site.take_over(gm.get_submodule(module.follows))
        site.train(gm.training)
        set_module(gm, node.target, site)
    return finish(gm, len(found))


def _weight_of(gm: fx.GraphModule) -> torch.Tensor:
    return next(p for p in gm.parameters() if p.is_floating_point())


def _check_names(thresholds: dict, sites: list[str], size_matters: bool) -> None:
    if not isinstance(thresholds, dict):
        raise ValueError(
            f"thresholds is a {type(thresholds).__name__}; give {{site: tensor}} from "
            "activation_thresholds(model, loader)"
        )
    missing = [name for name in sites if name not in thresholds]
    unknown = [name for name in thresholds if name not in sites]
    if missing or unknown:
        hint = f", {near_names(unknown[0], sites)}" if unknown else ""
        raise ValueError(
            f"thresholds do not fit the network's sites: missing {missing[:5]}, unknown "
            f"{unknown[:5]}{hint}; make them with "
            "activation_thresholds(model, loader) of the same model"
            f"{', and give example_inputs=images of the same size' if size_matters else ''}"
        )


def qcfs_to_clipped(gm: nn.Module) -> int:
    """Every QCFS becomes clip(x, 0, threshold), in any module tree (no graph needed)."""
    changed = 0
    for name, module in list(gm.named_modules()):
        if isinstance(module, QCFS):
            parent, _, last = name.rpartition(".")
            setattr(gm.get_submodule(parent), last, module.clipped())
            changed += 1
    return changed


def qcfs_to_neurons(gm: fx.GraphModule, neuron: str) -> int:
    """Every QCFS becomes a spiking neuron of the same name, threshold and levels."""
    found = calls(gm, QCFS)
    for node, module in found:
        signed = {"signed": True} if module.signed else {}
        new = NEURONS[neuron](module.threshold, module.levels, module.axis, **signed)
        set_module(gm, node.target, new)
    return finish(gm, len(found))
