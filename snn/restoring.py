"""A conversion's network from its JSON description and its tensors."""

import importlib

import torch
from torch import fx, nn

from ..graph import Domain
from .allowed import CLASS_HOMES, check_call, find_function
from .info import ConversionInfo
from .network import SpikingNetwork


def _decode(value, nodes: dict[str, fx.Node]):
    if isinstance(value, list):
        return [_decode(v, nodes) for v in value]
    if not isinstance(value, dict):
        return value
    ((tag, inner),) = value.items()
    if tag == "node":
        return nodes[inner]
    if tag == "tuple":
        return tuple(_decode(v, nodes) for v in inner)
    if tag == "dict":
        return {k: _decode(v, nodes) for k, v in inner.items()}
    if tag == "slice":
        return slice(*(_decode(v, nodes) for v in inner))
    if tag == "float":
        return float(inner)
    if tag == "ellipsis":
        return ...
    if tag == "dtype":
        return getattr(torch, inner)
    if tag == "device":
        return torch.device(inner)
    if tag == "shape":
        return torch.zeros(inner)
    raise KeyError(tag)


def build(description: dict, tensors: dict, leaf_modules: dict) -> SpikingNetwork:
    root = nn.Module()
    for path, written in description["modules"].items():
        if "leaf" in written and path not in leaf_modules:
            raise ValueError(
                f"module {path!r} ({written['leaf']}) is the user's own; give it as "
                f"load(folder, leaf_modules={{{path!r}: module}})"
            )
        _place(root, path, leaf_modules[path] if path in leaf_modules else _make_module(written))
    graph = fx.Graph()
    nodes: dict[str, fx.Node] = {}
    for written in description["graph"]:
        target = written["target"]
        if written["op"] in ("call_function", "call_method"):
            check_call(written)
        if written["op"] == "call_function":
            target = find_function(target)
        elif written["op"] == "get_attr":
            _place(root, target, tensors[target], buffer=True)
        args, kwargs = _decode(written["args"], nodes), _decode(written["kwargs"], nodes)
        node = graph.create_node(written["op"], target, args, kwargs, written["name"])
        node.meta["domain"] = Domain(written["domain"])
        for key in ("timed", "module_path"):
            if key in written:
                node.meta[key] = written[key]
        if "shape" in written:
            node.meta["shape"] = tuple(written["shape"])
        nodes[written["name"]] = node
    gm = fx.GraphModule(root, graph, "SpikingGraph")
    gm.meta.update(
        image_shape=description["image_shape"],
        fixed_image_size=description["fixed_image_size"],
        leaves=frozenset(leaf_modules),
    )
    return SpikingNetwork(gm, ConversionInfo.from_dict(description["info"]))


def _place(root: nn.Module, path: str, value, buffer: bool = False) -> None:
    owner = root
    *parents, last = path.split(".")
    for part in parents:
        if not hasattr(owner, part):
            owner.add_module(part, nn.Module())
        owner = getattr(owner, part)
    if buffer:
        if not hasattr(owner, last):
            owner.register_buffer(last, value)
    else:
        for name, child in getattr(owner, last, nn.Module()).named_children():
            value.add_module(name, child)
        setattr(owner, last, value)


def _make_module(written: dict) -> nn.Module:
    home, _, name = written["class"].rpartition(".")
    if not written["class"].startswith(CLASS_HOMES):
        raise ValueError(
            f"class {written['class']!r} is not on the list of what a conversion may use"
        )
    module_class = getattr(importlib.import_module(home), name)
    if not (isinstance(module_class, type) and issubclass(module_class, nn.Module)):
        raise ValueError(f"class {written['class']!r} is no module")
    module = module_class(**{k: _decode(v, {}) for k, v in written["arguments"].items()})
    for key, value in written["attributes"].items():
        setattr(module, key, value)
    return module
