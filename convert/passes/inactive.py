"""Pass: what does nothing in a converted network is taken out."""

from torch import fx

from ...graph.surgery import erase, finish
from ...ops import operation_of


def remove_inactive(gm: fx.GraphModule) -> int:
    """Dropout, drop path and identities are off, whatever the mode that the network was in."""
    changed = 0
    for node in list(gm.graph.nodes):
        if node.op == "call_module" and operation_of(gm, node).inactive:
            erase(node, node.args[0])
            changed += 1
    return finish(gm, changed)
