"""Conversions on disk: snn.safetensors (tensors) and conversion.json (graph, modules, how made).

No code is stored. The graph is a list of nodes that name functions, methods and module classes of
an allow-list; everything else is refused when saving, and again when loading.
"""

import importlib
import inspect
import json
import math
import os
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import fx, nn

from ..graph import Domain
from ..graph.operations import KNOWN_OPERATIONS
from .network import SpikingNetwork

SCHEMA = 1
TENSORS, DESCRIPTION = "snn.safetensors", "conversion.json"
_FUNCTION_HOMES = (
    "torch",
    "torch.nn.functional",
    "_operator",
    "builtins",
    "math",
    "torch._C._nn",
    "torch.functional",
    "torchvision.ops",
)
_CLASS_HOMES = ("torch.nn.", "spikeswap.neurons.", "timm.layers.")
_READABLE = {"shape", "ndim", "dtype", "device", "T", "mT", "values", "indices", "is_cuda"}
_ELSEWHERE = {
    "num_channels": lambda norm: norm.normalized_shape[0],  # timm's LayerNorm2d
    "affine": lambda norm: norm.elementwise_affine,
}
_BUILTINS = {"getattr", "int", "float", "len", "max", "min", "round", "sum", "abs", "slice"}


def save(network: SpikingNetwork, folder, made: dict, leaf_modules: bool = False) -> None:
    """Write a conversion; both files appear whole or not at all.

    Args:
        folder: made if missing.
        made: further entries for conversion.json (how it was made).
        leaf_modules: leave the user's own leaf modules out; `load(leaf_modules=)` wants them again.

    Raises:
        ValueError: the network holds modules of the user's own, which are named.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    gm = network.network
    description = {
        "schema": SCHEMA,
        "info": _plain(network.info),
        "made": _plain(made),
        "graph": [_write_node(gm, node) for node in gm.graph.nodes],
        "modules": _write_modules(network, leaf_modules),
        "image_shape": gm.meta.get("image_shape"),
        "fixed_image_size": bool(gm.meta.get("fixed_image_size")),
        "report": network.report.as_dict(),
    }
    tensors = {
        key: value.detach().cpu().contiguous().clone() for key, value in gm.state_dict().items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(description, indent=1)
    _replace(folder / TENSORS, lambda path: save_file(tensors, path))
    _replace(folder / DESCRIPTION, lambda path: Path(path).write_text(text))


def _replace(path: Path, write) -> None:
    """Write to a temporary name beside `path`, then rename."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except SafetensorError as error:
        raise OSError(
            f"{path} cannot be written: {error}; free some space and try again"
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def load(folder, leaf_modules: dict[str, nn.Module] | None = None) -> SpikingNetwork:
    """Read a conversion back, in a process that knows nothing of the original network.

    Args:
        folder: what `SpikingNetwork.save` wrote.
        leaf_modules: {name: module} for the user's own leaf modules, which are not stored.

    Raises:
        ValueError: a missing, truncated, damaged, foreign or newer file, which is named.
    """
    folder = Path(folder)
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(
            f"{path} does not exist; give the folder of a conversion, such as runs/latest/snn/<tag>"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); convert again") from error
    if not isinstance(description, dict) or "schema" not in description:
        raise ValueError(f"{path} is no conversion of spikeswap; it has no schema")
    if description["schema"] != SCHEMA:
        raise ValueError(
            f"{path} has schema {description['schema']}, this version reads {SCHEMA}; "
            "install a newer spikeswap or convert again"
        )
    tensors = _read_tensors(folder / TENSORS)
    try:
        wanted = [n["target"] for n in description["graph"] if n["op"] == "get_attr"]
        missing = [name for name in wanted if name not in tensors]
        network = None if missing else _build(description, tensors, leaf_modules or {})
    except (
        LookupError,
        TypeError,
        AttributeError,
        ValueError,
        AssertionError,
        RuntimeError,
    ) as error:
        raise ValueError(
            f"{path} cannot be built ({error}); it is damaged or was made by something "
            "else: convert again"
        ) from error
    if missing:
        raise ValueError(
            f"{folder / TENSORS} does not belong to its {DESCRIPTION}: it holds no {missing[0]!r}; "
            "convert again"
        )
    _fill(network.network, tensors, folder / TENSORS)
    return network.eval()


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; convert again") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is truncated or damaged ({error}); convert again") from error


def _fill(gm: fx.GraphModule, tensors: dict[str, torch.Tensor], path: Path) -> None:
    expected = gm.state_dict()
    wrong = [
        k
        for k in {*tensors, *expected}
        if k not in tensors or k not in expected or tensors[k].shape != expected[k].shape
    ]
    if wrong:
        raise ValueError(
            f"{path} does not belong to its {DESCRIPTION}: {sorted(wrong)[:4]}; convert again"
        )
    for key, value in tensors.items():
        owner, _, last = key.rpartition(".")
        store = gm.get_submodule(owner)
        if last in store._parameters:
            store._parameters[last] = nn.Parameter(value, requires_grad=False)
        else:
            store._buffers[last] = value


# -- writing ----------------------------------------------------------------------------------


def _plain(value):
    """JSON's own types only."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _write_node(gm: fx.GraphModule, node: fx.Node) -> dict:
    target = node.target if isinstance(node.target, str) else _function_name(node)
    written = {
        "name": node.name,
        "op": node.op,
        "target": target,
        "args": _encode(node.args),
        "kwargs": _encode(node.kwargs),
        "domain": node.meta["domain"].value,
    }
    for key in ("timed", "shape", "module_path"):
        if node.meta.get(key):
            written[key] = node.meta[key]
    return written


def _function_name(node: fx.Node) -> str:
    function = node.target
    name = getattr(function, "__name__", "")
    for home in (getattr(function, "__module__", None), *_FUNCTION_HOMES):
        if home in _FUNCTION_HOMES:
            candidate = f"{home}.{name}"
            try:
                if _find_function(candidate) is function:
                    return candidate
            except ValueError:
                continue
    raise ValueError(
        f"{node.name} calls {function}, which cannot be stored; put it into a module "
        "and mark that as a leaf: leaf_modules=..."
    )


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


def _write_modules(network: SpikingNetwork, leave_out: bool) -> dict:
    """{path: class and constructor arguments} of the modules that are called."""
    gm, modules, foreign = network.network, {}, []
    for node in gm.graph.nodes:
        if node.op == "call_module" and node.target not in modules:
            module = gm.get_submodule(node.target)
            home = f"{type(module).__module__}.{type(module).__qualname__}"
            if not home.startswith(_CLASS_HOMES):
                foreign.append(f"{node.target} ({type(module).__name__})")
                modules[node.target] = {"leaf": type(module).__name__}
                continue
            modules[node.target] = {
                "class": home,
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


# -- reading ----------------------------------------------------------------------------------


def _check_call(written: dict) -> None:
    """Only operations that a conversion knows; attributes only of shapes and types."""
    name = written["target"].rpartition(".")[2]
    if written["op"] == "call_function" and name == "getattr":
        if written["args"]["tuple"][1] not in _READABLE:
            raise ValueError(
                f"attribute {written['args']['tuple'][1]!r} is not on the list of what "
                "a conversion may read"
            )
    elif name not in KNOWN_OPERATIONS:
        raise ValueError(
            f"operation {written['target']!r} is not on the list of what a conversion may call"
        )


def _find_function(name: str):
    home, _, last = name.rpartition(".")
    if home not in _FUNCTION_HOMES or (home == "builtins" and last not in _BUILTINS):
        raise ValueError(f"function {name!r} is not on the list of what a conversion may call")
    function = getattr(importlib.import_module(home), last, None)
    if function is None and home == "torch._C._nn":
        function = getattr(torch._C._nn, last, None)
    if function is None:
        raise ValueError(f"function {name!r} is unknown to this version of PyTorch")
    return function


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


def _build(description: dict, tensors: dict, leaf_modules: dict) -> SpikingNetwork:
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
            _check_call(written)
        if written["op"] == "call_function":
            target = _find_function(target)
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
    return SpikingNetwork(gm, description["info"])


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
    if not written["class"].startswith(_CLASS_HOMES):
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
