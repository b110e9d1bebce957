"""Pass: what does nothing in a converted network is taken out."""

from torch import fx, nn

from ...graph.operations import DROPOUTS
from ...graph.surgery import calls, erase, finish

NAMES = ("DropPath", "StochasticDepth", "DropBlock2d")


def remove_inactive(gm: fx.GraphModule) -> int:
    """Dropout, drop path and identities are off, whatever the mode that the network was in."""
    changed = 0
    for node, module in calls(gm, nn.Module):
        if isinstance(module, (*DROPOUTS, nn.Identity)) or type(module).__name__ in NAMES:
            erase(node, node.args[0])
            changed += 1
    return finish(gm, changed)
