"""A conversion's network from its description, which was checked, and its tensors."""

import typing

import torch
from torch import fx, nn

from ..graph import Domain
from ..neurons import NEURONS, Accumulate, SpikingNeuron
from ..support.structure import Structure
from .allowed import find_class, find_function
from .description import DESCRIPTION, DTYPES, TENSORS, leaves_of
from .fields import LARGEST, fits, sizes_fit
from .info import ConversionInfo
from .network import SpikingNetwork
from .strict_json import need


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
        return DTYPES[inner]
    if tag == "device":
        return torch.device(inner)
    assert tag == "shape", tag
    return torch.zeros(inner, device="meta")


def build(description: dict, tensors: dict, leaf_modules: dict) -> SpikingNetwork:
    """The network of a checked description; its modules have no memory before `fill`."""
    root = nn.Module()
    for path, written in sorted(description["modules"].items(), key=lambda m: m[0].count(".")):
        _place(root, path, leaf_modules[path] if path in leaf_modules else _make(path, written))
    graph = fx.Graph()
    nodes: dict[str, fx.Node] = {}
    for written in description["graph"]:
        target = written["target"]
        if written["op"] == "call_function":
            target = find_function(target)
        elif written["op"] == "get_attr":
            need(target in tensors, f"{TENSORS} holds no {target!r}")
            _place(root, target, tensors[target])
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
    if "output" in description:
        gm.meta["output"] = Structure.from_json(description["output"])
    gm.meta.update(
        image_shape=description["image_shape"],
        more_shapes=description.get("more_shapes", []),
        fixed_image_size=description["fixed_image_size"],
        leaves=frozenset(leaf_modules),
    )
    _check_units(gm, description["info"])
    return SpikingNetwork(gm, ConversionInfo.from_dict(description["info"]))


def _place(root: nn.Module, path: str, value) -> None:
    """Put a module or a tensor under its path; nothing is replaced and only modules are entered."""
    owner = root
    *parents, last = path.split(".")
    for part in parents:
        if part not in owner._modules:
            need(not hasattr(owner, part), f"path {path!r} is taken")
            owner.add_module(part, nn.Module())
        owner = owner._modules[part]
    tensor = isinstance(value, torch.Tensor)
    if tensor and (last in owner._parameters or last in owner._buffers):
        return  # a weight that is read beside a call of its module
    need(not hasattr(owner, last), f"path {path!r} is taken")
    (owner.register_buffer if tensor else owner.add_module)(last, value)


def _make(path: str, written: dict) -> nn.Module:
    """A module of its constructor's arguments, on the meta device: no size takes memory."""
    module_class = find_class(written["class"])
    arguments = {name: _decode(value, {}) for name, value in written["arguments"].items()}
    hints = {
        **typing.get_type_hints(module_class.__init__),
        "device": type(None),
        "dtype": type(None),
    }
    for name, value in arguments.items():
        right = fits(value, hints.get(name, typing.Any))
        need(right, f"argument {name} of module {path} cannot be {{}}", value)
    with torch.device("meta"):
        module = module_class(**arguments)
    for name, value in written["attributes"].items():
        setattr(module, name, value)
    sizes = [
        number
        for name, value in written["arguments"].items()
        for number in leaves_of(value, shapes=True)
        if type(number) is int
        and name != "seed"
        or type(number) is float
        and name == "scale_factor"
    ]
    weights = sum(parameter.numel() for parameter in module.parameters())
    small = sizes_fit(sizes, LARGEST * max(1, weights))
    need(small, f"module {path} asks for more than {LARGEST} values: {{}}", sizes)
    return module


def _check_units(gm: fx.GraphModule, info: dict) -> None:
    """ValueError unless all units are of the neuron that the conversion names."""
    neuron, modules = NEURONS[info["neuron"]], dict(gm.named_modules())
    neurons = {path: m for path, m in modules.items() if isinstance(m, SpikingNeuron)}
    need(neurons, "the graph has no neuron")
    wrong = [path for path, module in neurons.items() if type(module) is not neuron]
    wrong += [
        path
        for path, module in modules.items()
        if isinstance(module, Accumulate) and module.coding != neuron.coding.name
    ]
    need(not wrong, f"modules {{}} are not for neuron {info['neuron']}", wrong)


def all_tensors(gm: fx.GraphModule) -> dict[str, torch.Tensor]:
    """Parameters and buffers, those too that a state_dict leaves out (`persistent=False`)."""
    return {**dict(gm.named_buffers(remove_duplicate=False)), **gm.state_dict()}


def fill(gm: fx.GraphModule, tensors: dict[str, torch.Tensor]) -> None:
    """Give every parameter and buffer its tensor; ValueError unless each has one of its kind."""
    expected = all_tensors(gm)
    wrong = [k for k in tensors if k in expected and tensors[k].shape != expected[k].shape]
    wrong += expected.keys() ^ tensors.keys()
    need(not wrong, f"holds other tensors than its {DESCRIPTION} asks for: {{}}", sorted(wrong))
    for key, value in tensors.items():
        same = value.is_floating_point() == expected[key].is_floating_point()
        need(same, f"holds {key!r} of type {value.dtype}")
        owner, _, last = key.rpartition(".")
        store = gm.get_submodule(owner)
        if last in store._parameters:
            store._parameters[last] = nn.Parameter(value, requires_grad=False)
        else:
            store._buffers[last] = value
    check_values(gm)


def check_values(gm: fx.GraphModule) -> None:
    """ValueError for a tensor that no conversion has: infinite weights, negative thresholds.

    Tensors of the user's own leaf modules may be anything.
    """
    theirs = tuple(f"{leaf}." for leaf in gm.meta.get("leaves", ()))
    for key, value in all_tensors(gm).items():
        if key.startswith(theirs):
            continue
        need(value.dtype in DTYPES.values(), f"holds {key!r} of type {value.dtype}")
        owner, _, last = key.rpartition(".")
        store = gm.get_submodule(owner)
        neuron = isinstance(store, SpikingNeuron)
        if value.is_floating_point() and (neuron or last in store._parameters):
            need(bool(value.isfinite().all()), f"holds {key!r} with NaN or infinity")
        if last == "running_var" or neuron and last == "threshold":
            need(bool((value >= 0).all()), f"holds {key!r} with values that are negative or NaN")
