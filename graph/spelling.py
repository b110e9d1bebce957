"""One spelling for what can be written in several ways: keywords, alpha, addmm, x.mT."""

import operator

import torch
from torch import fx

from ..ops import Kind, operation_of
from .nodes import takes_one_of_several
from .surgery import attribute, finish

_POSITIONS = ("input", "tensors", "other", "mat1", "mat2", "batch1", "batch2", "tensor1", "tensor2")


def plain_arguments(gm: fx.GraphModule) -> int:
    """input= and other= come first and second; x + alpha * y is written as a product and a sum."""
    changed = 0
    for node in list(gm.graph.nodes):
        if node.op == "call_module" and not node.args and node.kwargs:
            first, *rest = node.kwargs.values()
            node.args, node.kwargs = (first, *rest), {}
            changed += 1
        if node.op not in ("call_function", "call_method"):
            continue
        for key in _POSITIONS:
            if key in node.kwargs:
                kwargs = dict(node.kwargs)
                node.args, node.kwargs = (*node.args, kwargs.pop(key)), kwargs
                changed += 1
        alpha = node.kwargs.get("alpha", 1)
        place = operation_of(gm, node).alpha
        if alpha != 1 and place is not None:
            operands = list(node.args)
            with gm.graph.inserting_before(node):
                operands[place] = _scaled(node, operands[place], alpha)
            node.args = tuple(operands)
            node.kwargs = {k: v for k, v in node.kwargs.items() if k != "alpha"}
            changed += 1
        if place == 0:  # rsub(x, y) is y - x
            node.op, node.target, node.args = "call_function", torch.sub, node.args[1::-1]
            changed += 1
    return finish(gm, changed)


def _call(node: fx.Node, function, *args) -> fx.Node:
    """A new call in front of `node`, in the same place of the user's model."""
    new = node.graph.call_function(function, args)
    new.meta = {k: v for k, v in node.meta.items() if k != "shape"}
    return new


def _scaled(node: fx.Node, operand, factor):
    if not isinstance(factor, fx.Node) and factor == 1:
        return operand
    if not isinstance(operand, fx.Node) and not isinstance(factor, fx.Node):
        return operand * factor
    scaled = _call(node, torch.mul, operand, factor)
    if isinstance(operand, fx.Node) and "shape" in operand.meta:
        scaled.meta["shape"] = operand.meta["shape"]
    return scaled


def _product(node: fx.Node, function) -> fx.Node:
    product = _call(node, function, *node.args[1:3])
    if "shape" in node.meta:
        product.meta["shape"] = node.meta["shape"]
    return product


_FUSED_KEYWORDS = {"lerp": ("end", "weight"), "addmv": ("mat", "vec")}


def fused_to_sums(gm: fx.GraphModule) -> int:
    """addmm, addmv, baddbmm, addcmul, addcdiv and lerp become products and sums."""
    changed = 0
    for node in list(gm.graph.nodes):
        if node.op not in ("call_function", "call_method"):
            continue
        row = operation_of(gm, node)
        if row.kind is not Kind.FUSED:
            continue
        name = row.name
        for key in _FUSED_KEYWORDS.get(name, ()):
            if key in node.kwargs:
                kwargs = dict(node.kwargs)
                node.args, node.kwargs = (*node.args, kwargs.pop(key)), kwargs
        if len(node.args) < 3:
            continue
        graph = gm.graph
        with graph.inserting_before(node):
            if name == "lerp":  # a + w (b - a)
                first = node.args[0]
                product = _product(node, row.product)
                difference = _call(node, torch.sub, node.args[1], first)
                product.prepend(difference)
                product.args = (difference, node.args[2])
            else:
                scale = "value" if name in ("addcmul", "addcdiv") else "alpha"
                product = _scaled(node, _product(node, row.product), node.kwargs.get(scale, 1))
                first = _scaled(node, node.args[0], node.kwargs.get("beta", 1))
        node.op, node.target = "call_function", torch.add
        node.args, node.kwargs = (first, product), {}
        changed += 1
    return finish(gm, changed)


def _rank(gm: fx.GraphModule, node: fx.Node) -> int | None:
    """Number of axes of a tensor, None where nothing tells it."""
    if node.op == "get_attr":
        return attribute(gm, node.target).dim()
    return len(node.meta["shape"]) if "shape" in node.meta else None


_FIELDS = ["values", "indices"]  # of what max, min, topk, sort and the like give
_TRANSPOSED = {"mT": (-2, -1), "mH": (-2, -1)}


def attributes_to_calls(gm: fx.GraphModule) -> int:
    """x.mT, x.T, x.data and x.max(1).values are tensors, no sizes: they become calls."""
    changed = 0
    for node in list(gm.graph.nodes):
        if node.target is getattr and node.args[1] in _FIELDS and takes_one_of_several(gm, node):
            node.target, node.args = operator.getitem, (node.args[0], _FIELDS.index(node.args[1]))
            changed += 1
            continue
        if node.target is not getattr or node.args[1] not in ("mT", "mH", "T", "H", "data", "real"):
            continue
        name = node.args[1]
        node.op = "call_method"
        if name in _TRANSPOSED:
            node.target, node.args = "transpose", (node.args[0], *_TRANSPOSED[name])
        elif name in ("T", "H"):
            rank = _rank(gm, node.args[0])
            if name == "H" or rank in (1, 2, None):  # t() itself refuses a rank above 2
                node.target, node.args = "t", (node.args[0],)
            else:
                node.target, node.args = "permute", (node.args[0], *reversed(range(rank)))
        else:
            node.target, node.args = "detach", (node.args[0],)
        changed += 1
    return finish(gm, changed)
