"""Pass: thresholds above what a site can ever read come down to that bound."""

import torch
from torch import fx

from ...graph.operations import function_name, module_of
from ...graph.surgery import calls
from ...neurons import QCFS

AT_MOST_ONE = {"softmax", "softmax2d", "sigmoid", "hardsigmoid"}
REORDERS = {"reshape", "view", "permute", "transpose", "contiguous", "flatten", "unsqueeze"}


def lower_thresholds_to_bounds(gm: fx.GraphModule) -> int:
    """Sites that read a softmax or sigmoid, which is at most 1, get a threshold of at most 1.

    For rate coding: clip(x, 0, s) is the same function for every s from the bound on, and a neuron
    with a lower threshold sends it in more and smaller spikes, so that less of it waits in the
    membrane. Trained thresholds of attention scores stay near 2.0 (levels L are not kept; IF neurons
    have none).
    """
    changed = 0
    for node, site in calls(gm, QCFS):
        if _reads_at_most_one(gm, node) and bool((site.threshold > 1).any()):
            site.set_threshold(torch.clamp(site.threshold.detach(), max=1.0))
            changed += 1
    return changed


def _reads_at_most_one(gm: fx.GraphModule, node: fx.Node) -> bool:
    while node.all_input_nodes:
        node = node.all_input_nodes[0]
        module = module_of(gm, node)
        name = (type(module).__name__ if module is not None else function_name(node)).lower()
        if name in AT_MOST_ONE:
            return True
        if name not in REORDERS:
            return False
    return False
