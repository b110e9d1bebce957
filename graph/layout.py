"""Where the channels of a tensor lie, read off the operations that made it."""

from torch import fx

from ..ops import Channels, Kind, module_of, operation_of


def channel_axis(gm: fx.GraphModule, node: fx.Node) -> int | None:
    """Channel axis of the tensor that `node` gives: 1, -1, or None when it is not known.

    1 after convolutions, batch norms and poolings of [B, C, ...]; -1 after linear layers and token
    norms of [..., C]. Reshapes and products of two tensors end the search.
    """
    while node.op in ("call_module", "call_function", "call_method"):
        row = operation_of(gm, node)
        if row.kind is Kind.NORM:
            return getattr(module_of(gm, node), "channel_axis", 1)
        if row.channels in (Channels.FIRST, Channels.LAST):
            return 1 if row.channels is Channels.FIRST else -1
        if row.channels is not Channels.KEPT or not node.all_input_nodes:
            return None
        if row.kind is Kind.PRODUCT and len(node.all_input_nodes) > 1:
            return None
        node = node.all_input_nodes[0]
    return None
