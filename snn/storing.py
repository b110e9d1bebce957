"""A conversion's graph and modules as plain JSON (tensors apart)."""

import inspect
import math

import torch
from torch import fx, nn

from .allowed import class_name, function_name
from .network import SpikingNetwork

_ELSEWHERE = {
    "num_channels": lambda norm: norm.normalized_shape[0],  # timm's LayerNorm2d
    "affine": lambda norm: norm.elementwise_affine,
}


def plain(value):
    """JSON's own types only."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def write_node(gm: fx.GraphModule, node: fx.Node) -> dict:
    written = {
        "name": node.name,
        "op": node.op,
        "target": _target(node),
        "args": _encode(node.args),
        "kwargs": _encode(node.kwargs),
        "domain": node.meta["domain"].value,
    }
    for key in ("timed", "shape", "module_path"):
        if node.meta.get(key):
            written[key] = node.meta[key]
    return written


def _target(node: fx.Node) -> str:
    if node.op == "placeholder":
        return node.name  # a plain name, whatever the argument of forward is called
    if isinstance(node.target, str):
        return node.target
    name = function_name(node.target)
    if name is None:
        raise ValueError(
            f"{node.name} calls {node.target}, which cannot be stored; put it into a module "
            "and mark that as a leaf: leaf_modules=..."
        )
    return name


def _encode(value):
    """Arguments of a node as JSON; nodes, tuples, slices and torch constants are tagged."""
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, (torch.Size, tuple)):
        return {"tuple": [_encode(v) for v in value]}
    if isinstance(value, list):
        return [_encode(v) for v in value]
    if isinstance(value, dict):
        return {"dict": {k: _encode(v) for k, v in value.items()}}
    if isinstance(value, slice):
        return {"slice": [_encode(v) for v in (value.start, value.stop, value.step)]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"an argument of type {type(value).__name__} cannot be stored")


def write_modules(network: SpikingNetwork, leave_out: bool) -> dict:
    """{path: class and constructor arguments} of the modules that are called."""
    gm, modules, foreign = network.network, {}, []
    for node in gm.graph.nodes:
        if node.op == "call_module" and node.target not in modules:
            module = gm.get_submodule(node.target)
            name = class_name(module)
            if name is None:
                foreign.append(f"{node.target} ({type(module).__name__})")
                modules[node.target] = {"leaf": type(module).__name__}
                continue
            modules[node.target] = {
                "class": name,
                "arguments": _constructor_arguments(module),
                "attributes": _attributes(module),
            }
    if foreign and not leave_out:
        raise ValueError(
            f"modules of your own cannot be stored: {', '.join(foreign)}; build them of "
            "torch's modules, or save(folder, leaf_modules=True) and give them again to "
            "load(folder, leaf_modules={name: module})"
        )
    return modules


def _constructor_arguments(module: nn.Module) -> dict:
    """What the constructor needs, read from the module's attributes of the same names."""
    arguments = {}
    for name, parameter in inspect.signature(type(module).__init__).parameters.items():
        if name in ("self", "device", "dtype", "inplace") or parameter.kind in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            continue
        if name in ("bias", "offset") and isinstance(
            getattr(module, name, None), (torch.Tensor, type(None))
        ):
            value = getattr(module, name, None)
            arguments[name] = (
                {"shape": list(value.shape)}
                if name == "offset" and value is not None
                else value is not None
                if name == "bias"
                else None
            )
        elif isinstance(getattr(module, name, None), torch.Tensor):
            arguments[name] = {"shape": list(getattr(module, name).shape)}
        elif hasattr(module, name):
            arguments[name] = _encode(getattr(module, name))
        elif name in _ELSEWHERE:
            arguments[name] = _encode(_ELSEWHERE[name](module))
        elif parameter.default is parameter.empty:
            raise ValueError(
                f"{type(module).__name__} keeps no argument {name!r}: it cannot be stored"
            )
    return arguments


def _attributes(module: nn.Module) -> dict:
    return {"running_input": True} if getattr(module, "running_input", False) else {}
