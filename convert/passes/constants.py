"""Passes: what depends on no image (position biases, standardised weights) is computed once, now."""

import operator

import torch
from torch import fx

from ...graph.surgery import add_buffer, attribute, finish
from ...neurons import QCFS


def copy_borrowed_tensors(gm: fx.GraphModule) -> int:
    """A weight that the graph reads beside a call of its module becomes a buffer of its own.

    Later passes change weights and biases of modules; `x * self.norm.weight` means the old ones.
    """
    called = {node.target for node in gm.graph.nodes if node.op == "call_module"}
    copies: dict[str, str] = {}
    for node in gm.graph.nodes:
        owner, _, _ = str(node.target).rpartition(".")
        if node.op != "get_attr" or owner not in called:
            continue
        if node.target not in copies:
            value = attribute(gm, node.target).detach().clone()
            copies[node.target] = add_buffer(gm, f"{node.name}_value", value)
        node.target = copies[node.target]
    return finish(gm, len(copies))


def fold_constants(gm: fx.GraphModule, clip: bool = False) -> int:
    """Replace every expression of parameters alone by a buffer or by a Python number.

    Args:
        clip: an activation site gives clip(x, 0, threshold) there, which rate coding tends to, and
            not a level of it.
    """
    values: dict[fx.Node, object] = {}
    for node in gm.graph.nodes:
        if node.op == "get_attr":
            values[node] = attribute(gm, node.target)
        elif node.op in ("call_function", "call_method", "call_module"):
            if node.all_input_nodes and all(n in values for n in node.all_input_nodes):
                values[node] = _run(gm, node, values, clip)
    changed = 0
    for node in list(values):
        users = [user for user in node.users if user not in values]
        if node.op == "get_attr" or not users:
            continue
        value = values[node]
        if isinstance(value, torch.Tensor):
            with gm.graph.inserting_after(node):
                buffer = gm.graph.get_attr(add_buffer(gm, f"{node.name}_value", value))
            node.replace_all_uses_with(
                buffer, delete_user_cb=lambda u: u not in values, propagate_meta=False
            )
        else:
            for user in users:
                user.args = _inline(user.args, node, value)
                user.kwargs = _inline(user.kwargs, node, value)
        changed += 1
    if changed:
        gm.graph.eliminate_dead_code()
    return finish(gm, changed)


def _inline(arguments, node: fx.Node, value):
    return fx.node.map_arg(arguments, lambda n: value if n is node else n)


@torch.no_grad()
def _run(gm: fx.GraphModule, node: fx.Node, values: dict, clip: bool):
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: values[n])
    if node.op == "call_module":
        module = gm.get_submodule(node.target)
        if clip and isinstance(module, QCFS):
            module = module.clipped()
        return module(*args, **kwargs)
    if node.op == "call_method":
        return operator.methodcaller(node.target, *args[1:], **kwargs)(args[0])
    return node.target(*args, **kwargs)
