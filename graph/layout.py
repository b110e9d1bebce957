"""Where the channels of a tensor lie, read off the operations that made it."""

from torch import fx, nn

from .operations import WEIGHT_LAYERS, Kind, classify, module_of

# Operations that leave every axis where it was.
_KEEPS_AXES = {
    "add",
    "sub",
    "mul",
    "div",
    "neg",
    "clone",
    "contiguous",
    "relu",
    "cat",
    "concat",
    "truediv",
    "interpolate",
    "avg_pool2d",
    "max_pool2d",
    "pad",
    "dropout",
    "float",
    "sigmoid",
    "detach",
}


def channel_axis(gm: fx.GraphModule, node: fx.Node) -> int | None:
    """Channel axis of the tensor that `node` gives: 1, -1, or None when it is not known.

    1 behind convolutions, batch norms and poolings of [B, C, ...]; -1 behind linear layers and
    token norms of [..., C]. Reshapes and products of two tensors end the search.
    """
    for _ in range(len(gm.graph.nodes)):
        module = module_of(gm, node)
        if isinstance(module, (nn.Linear, nn.LayerNorm)):
            return -1
        if isinstance(module, WEIGHT_LAYERS):
            return 1
        if module is not None and classify(gm, node)[0] is Kind.NORM:
            return getattr(module, "channel_axis", 1)
        name = getattr(node.target, "__name__", node.target)
        passes = module is not None and not isinstance(module, (nn.Flatten, nn.Unflatten))
        if not passes and (
            node.op not in ("call_function", "call_method")
            or name not in _KEEPS_AXES
            or _is_product(node, name)
        ):
            return None
        if not node.all_input_nodes:
            return None
        node = node.all_input_nodes[0]
    return None


def _is_product(node: fx.Node, name: str) -> bool:
    return name in ("mul", "div", "truediv") and len(node.all_input_nodes) > 1
