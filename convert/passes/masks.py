"""Passes: random spike masks after activation sites."""

from torch import fx

from ...graph.attention import attention_roles
from ...graph.sizes import depends_on_image
from ...graph.surgery import call_module_after, calls, erase, finish, set_module
from ...neurons import QCFS, SeededMask, SpikeMask
from ...support.messages import near_names


def site_names(gm: fx.GraphModule) -> list[str]:
    """Names of all activation sites, in the order of the data flow."""
    return [node.target for node, _ in calls(gm, QCFS)]


def default_mask_sites(gm: fx.GraphModule) -> list[str]:
    """Where the masks of a network belong when nobody says otherwise.

    What the model itself names (`mask_sites`); else q, k and the activated scores where there is
    softmax attention; else every activation site.
    """
    sites = site_names(gm)
    declared = gm.meta.get("about", {}).get("mask_sites")
    if declared is not None:
        return [name for name in sites if name in set(declared)]
    roles = attention_roles(gm)
    return [name for name in sites if name in roles.scores | roles.operands] or sites


def check_mask_sites(wanted, sites: list[str]) -> list[str]:
    """The wanted names, or ValueError for one that is no activation site."""
    for name in wanted:
        if name not in sites:
            raise ValueError(f"mask site {name!r} is no activation site; {near_names(name, sites)}")
    return list(wanted)


def insert_masks(gm: fx.GraphModule, ratio: float, sites: list[str], scaling: str = "none") -> int:
    """A `SpikeMask` after each of these sites; every reader of the site reads the mask.

    Sites that see parameters alone send no spikes and get no mask.
    """
    changed = 0
    for node, _ in calls(gm, QCFS):
        if node.target in sites and depends_on_image(node):
            mask = SpikeMask(ratio, scaling)
            mask.train(gm.training)
            call_module_after(gm, node, f"{node.target}_mask", mask)
            changed += 1
    return finish(gm, changed)


def remove_masks(gm: fx.GraphModule) -> int:
    """Take all masks out."""
    found = calls(gm, SpikeMask)
    for node, _ in found:
        erase(node, node.args[0])
    return finish(gm, len(found))


def masks_to_seeded(gm: fx.GraphModule, seed: int, scaling: str, frozen: bool) -> int:
    """Every mask of the trainable network becomes one that seed, site, image and step name."""
    found = calls(gm, SpikeMask)
    for node, module in found:
        site = node.args[0].target
        set_module(gm, node.target, SeededMask(site, module.ratio, scaling, seed, frozen))
    return finish(gm, len(found))


def masked_sites(gm: fx.GraphModule) -> list[str]:
    """Names of the sites that have a mask now."""
    return [node.args[0].target for node, _ in calls(gm, SpikeMask)]


def trained_ratio(gm: fx.GraphModule) -> float:
    """The mask ratio that a network was trained with: 0 without masks."""
    ratios = {module.ratio for _, module in calls(gm, SpikeMask)}
    return max(ratios, default=0.0)
