"""Small, safe cuts on an fx graph that all passes share."""

import keyword
import re
from collections.abc import Callable

import torch
from torch import fx, nn


def free_name(owner: nn.Module, name: str) -> str:
    """A name near `name` that `owner` has no use for yet and that can stand in Python source."""
    name = re.sub(r"\W", "_", name, flags=re.ASCII) or "unnamed"
    name = f"_{name.lstrip('_')}" if name.startswith("__") else name  # Python's and fx's own
    name = f"{name}_" if keyword.iskeyword(name) else name
    free, count = name, 0
    while hasattr(owner, free):
        count += 1
        free = f"{name}_{count}"
    return free


def add_module(root: nn.Module, path: str, module: nn.Module) -> str:
    """Put a module into the tree under a free path near `path`; returns the path used."""
    *parents, last = path.split(".")
    owner, used = root, []
    for part in parents:
        child = owner._modules.get(part)
        if child is None:
            part, child = free_name(owner, part), nn.Module()
            owner.add_module(part, child)
        owner = child
        used.append(part)
    used.append(free_name(owner, last))
    owner.add_module(used[-1], module)
    return ".".join(used)


def attribute(graph_module: fx.GraphModule, path: str):
    owner: object = graph_module
    for part in path.split("."):
        owner = getattr(owner, part)
    return owner


def add_buffer(graph_module: fx.GraphModule, name: str, value: torch.Tensor) -> str:
    """Register a buffer at the root under a free name near `name`; returns the name used."""
    name = free_name(graph_module, name)
    graph_module.register_buffer(name, value)
    return name


def rename(owner: nn.Module, old: str, new: str) -> None:
    """Give a sub-module, a parameter or another tensor of a module a free name."""
    for store in (owner._modules, owner._parameters, owner._buffers, owner.__dict__):
        if old in store:
            store[new] = store.pop(old)


def set_module(graph_module: fx.GraphModule, name: str, module: nn.Module) -> None:
    """Replace the module at a path."""
    parent, _, last = name.rpartition(".")
    setattr(graph_module.get_submodule(parent), last, module)


def call_module_after(
    graph_module: fx.GraphModule,
    node: fx.Node,
    name: str,
    module: nn.Module,
    users: Callable[[fx.Node], bool] = lambda user: True,
    extra_args: tuple = (),
) -> fx.Node:
    """Insert `module` after `node` for those users that `users` accepts; returns the new node."""
    name = add_module(graph_module, name, module)
    with graph_module.graph.inserting_after(node):
        new = graph_module.graph.call_module(name, (node, *extra_args))
    new.meta = dict(node.meta)
    node.replace_all_uses_with(
        new, delete_user_cb=lambda user: user is not new and users(user), propagate_meta=False
    )
    return new


def erase(node: fx.Node, replacement: fx.Node) -> None:
    """Take a node out of its graph; its users read `replacement`."""
    node.replace_all_uses_with(replacement)
    node.graph.erase_node(node)


def finish(graph_module: fx.GraphModule, changed: int) -> int:
    """Check and compile the graph if a pass changed it; returns the count."""
    if changed:
        graph_module.graph.lint()
        graph_module.recompile()
    return changed


def drop_unused(gm: fx.GraphModule) -> None:
    """Delete the modules that nothing calls and the tensors that nothing reads."""
    gm.delete_all_unused_submodules()
    called = [n.target for n in gm.graph.nodes if n.op == "call_module"]
    read = {n.target for n in gm.graph.nodes if n.op == "get_attr"}
    inside = tuple(f"{name}." for name in called)
    for name, module in list(gm.named_modules()):
        if (
            name in called
            or name.startswith(inside)
            and not any(c.startswith(f"{name}.") for c in called)
        ):
            continue
        for store in (module._parameters, module._buffers):
            for key in list(store):
                if (f"{name}.{key}" if name else key) not in read:
                    del store[key]


def calls(graph_module: fx.GraphModule, *types: type) -> list[tuple[fx.Node, nn.Module]]:
    """All nodes that call a module of these types, with the module, in the order of the data flow."""
    found = []
    for node in graph_module.graph.nodes:
        if node.op == "call_module":
            module = graph_module.get_submodule(node.target)
            if isinstance(module, types):
                found.append((node, module))
    return found
