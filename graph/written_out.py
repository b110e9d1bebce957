"""Attention written out, so that its layers and both of its products stand in the graph.

nn.MultiheadAttention becomes three linear layers, fused attention and a linear layer; fused
attention becomes softmax(q k^T * scale + mask) v.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ..ops import operation_of
from ..ops.as_modules import argument
from .surgery import add_buffer, attribute, calls, finish, set_module


class _Writer:
    """Writes calls in front of a node, in the same place of the user's model."""

    def __init__(self, gm: fx.GraphModule, node: fx.Node):
        self.gm, self.node = gm, node

    def call(self, op: str, target, *args, shape=None) -> fx.Node:
        with self.gm.graph.inserting_before(self.node):
            new = getattr(self.gm.graph, op)(target, args)
        new.meta = {k: v for k, v in self.node.meta.items() if k != "shape"}
        if shape is not None:
            new.meta["shape"] = tuple(shape)
        return new

    def function(self, function, *args, shape=None) -> fx.Node:
        return self.call("call_function", function, *args, shape=shape)

    def method(self, name: str, *args, shape=None) -> fx.Node:
        return self.call("call_method", name, *args, shape=shape)

    def buffer(self, name: str, value: Tensor) -> fx.Node:
        with self.gm.graph.inserting_before(self.node):
            return self.gm.graph.get_attr(add_buffer(self.gm, name, value))


def attention_modules_to_layers(gm: fx.GraphModule) -> int:
    """nn.MultiheadAttention without masks of padding becomes layers and fused attention."""
    made: dict[str, nn.Module] = {}
    changed = 0
    for node, module in calls(gm, nn.MultiheadAttention):
        if not _can_be_written(node, module):
            continue
        layers = made.setdefault(node.target, _layers(module))
        _write_module(gm, node, module, layers)
        changed += 1
    return finish(gm, changed)


def _can_be_written(node: fx.Node, module: nn.MultiheadAttention) -> bool:
    padding = argument(node, 3, "key_padding_mask")
    rank = len(node.args[0].meta.get("shape", ())) if isinstance(node.args[0], fx.Node) else 0
    weights = [user for user in node.users if user.args[1:] != (0,)]
    plain = module.bias_k is None and module.bias_v is None and not module.add_zero_attn
    return plain and padding is None and rank == 3 and not any(user.users for user in weights)


def _layers(module: nn.MultiheadAttention) -> nn.Module:
    """The linear layers q, k, v and out of an attention module."""
    if module.in_proj_weight is not None:
        weights = module.in_proj_weight.detach().chunk(3)
    else:
        parts = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
        weights = tuple(part.detach() for part in parts)
    bias = module.in_proj_bias
    biases = (None, None, None) if bias is None else bias.detach().chunk(3)
    layers = nn.Module()
    for name, weight, offset in zip("qkv", weights, biases, strict=True):
        layers.add_module(name, _linear(weight, offset))
    out = module.out_proj
    layers.add_module("out", _linear(out.weight.detach(), out.bias))
    return layers.train(module.training)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer


def _write_module(gm: fx.GraphModule, node: fx.Node, module, layers: nn.Module) -> None:
    write, path, heads = _Writer(gm, node), str(node.target), module.num_heads
    set_module(gm, path, layers)
    parts = []
    for name, source in zip("qkv", node.args[:3], strict=True):
        shape = source.meta.get("shape")
        if not module.batch_first:
            shape = shape and (shape[1], shape[0], *shape[2:])
            source = write.method("transpose", source, 0, 1, shape=shape)
        width = layers.get_submodule(name).out_features
        x = write.call("call_module", f"{path}.{name}", source, shape=shape and (*shape[:2], width))
        size = (heads, width // heads)
        x = write.method("unflatten", x, -1, size, shape=shape and (*shape[:2], *size))
        shape = shape and (shape[0], heads, shape[1], width // heads)
        parts.append(write.method("transpose", x, 1, 2, shape=shape))
    mask, causal = argument(node, 5, "attn_mask"), bool(argument(node, 7, "is_causal", False))
    q, v = (part.meta.get("shape") for part in parts[::2])
    shape = q and v and (*q[:3], v[3])
    fused = F.scaled_dot_product_attention
    x = write.function(fused, *parts, mask, 0.0, causal and mask is None, shape=shape)
    shape = shape and (shape[0], shape[2], heads, shape[3])
    x = write.method("transpose", x, 1, 2, shape=shape)
    x = write.method("flatten", x, 2, shape=shape and (*shape[:2], heads * shape[3]))
    x = write.call("call_module", f"{path}.out", x, shape=x.meta.get("shape"))
    if not module.batch_first:
        shape = x.meta.get("shape")
        x = write.method("transpose", x, 0, 1, shape=shape and (shape[1], shape[0], shape[2]))
    for user in list(node.users):
        if user.args[1:] == (0,):
            user.replace_all_uses_with(x)
        gm.graph.erase_node(user)
    gm.graph.erase_node(node)


def fused_attention_to_products(gm: fx.GraphModule) -> int:
    """F.scaled_dot_product_attention of known shapes becomes two products and a softmax."""
    changed = 0
    for node in list(gm.graph.nodes):
        if node.op != "call_function":
            continue
        if operation_of(gm, node).name != "scaled_dot_product_attention":
            continue
        q, k, v = (argument(node, i, name) for i, name in enumerate(("query", "key", "value")))
        shapes = [x.meta.get("shape") for x in (q, k, v)]
        mask = _Mask.of(gm, node, shapes)
        if (
            any(shape is None for shape in shapes)
            or mask is None
            or argument(node, 7, "enable_gqa")
        ):
            continue
        write = _Writer(gm, node)
        scale = argument(node, 6, "scale")
        scale = shapes[0][-1] ** -0.5 if scale is None else scale
        q = write.function(torch.mul, q, scale, shape=shapes[0])
        turned = (*shapes[1][:-2], shapes[1][-1], shapes[1][-2])
        k = write.method("transpose", k, -2, -1, shape=turned)
        scores = (*shapes[0][:-1], shapes[1][-2])
        x = mask.onto(write, write.function(torch.matmul, q, k, shape=scores), scores)
        x = write.function(torch.softmax, x, -1, shape=scores)
        x = write.function(torch.matmul, x, v, shape=(*scores[:-1], shapes[2][-1]))
        node.replace_all_uses_with(x)
        gm.graph.erase_node(node)
        changed += 1
    return finish(gm, changed)


class _Mask:
    """What is added to the scores: a node, a tensor that is known, or nothing."""

    def __init__(self, node: fx.Node | None, hidden: Tensor | None):
        self.node, self.hidden = node, hidden

    @classmethod
    def of(cls, gm: fx.GraphModule, node: fx.Node, shapes) -> "_Mask | None":
        """None where it cannot be told whether a mask is added or hides."""
        given = argument(node, 3, "attn_mask")
        if given is None and argument(node, 5, "is_causal", False):
            if any(shape is None for shape in shapes):
                return None
            size = shapes[0][-2], shapes[1][-2]
            return cls(None, torch.ones(size, dtype=torch.bool).tril().logical_not())
        if not isinstance(given, fx.Node) or given.op != "get_attr":
            is_added = isinstance(given, fx.Node) and given.meta.get("floating", True)
            return cls(given, None) if given is None or is_added else None
        value = attribute(gm, given.target)
        return cls(None, ~value) if value.dtype == torch.bool else cls(given, None)

    def onto(self, write: _Writer, scores: fx.Node, shape) -> fx.Node:
        if self.hidden is not None:
            hidden = write.buffer("hidden", self.hidden)
            return write.method("masked_fill", scores, hidden, float("-inf"), shape=shape)
        if self.node is not None:
            return write.function(torch.add, scores, self.node, shape=shape)
        return scores
