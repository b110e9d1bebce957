"""What conversion.json may hold; all of it is checked before anything is built of it.

The file may come from a stranger. fx writes Python source from the texts of a graph, so a text is an
identifier, a path of plain names or stands on a list; and a number that asks for memory has a bound.
"""

import torch
from torch import fx

from ..graph import Domain
from ..neurons import SpikingNeuron
from ..neurons.coding import CODINGS
from ..ops import spelled
from ..support.structure import KINDS
from .allowed import PYTHON_HOMES, READABLE, find_class, find_function, known_operation
from .fields import (
    COUNT,
    COUNT_OR_NULL,
    LARGEST,
    LARGEST_IMAGE,
    NAME,
    OBJECT,
    SIZES,
    TEXT,
    WHOLE,
    YES_OR_NO,
    between,
    check_fields,
    is_image,
    is_name,
    is_path,
    kind,
    list_of,
    one_of,
    optional,
    sizes_fit,
    tagged,
    text,
)
from .info import ConversionInfo
from .strict_json import need

TENSORS, DESCRIPTION = "snn.safetensors", "conversion.json"
LARGEST_GRAPH = 2**16  # nodes, modules and values in arguments; 1,700 nodes of a Swin have 6,000
LARGEST_POWER = 1024  # a whole exponent
DTYPES = {
    name: getattr(torch, name)
    for name in "float16 bfloat16 float32 float64 bool uint8 int8 int16 int32 int64".split()
}
_STRUCTURE = {
    "kind": one_of(KINDS),
    "name?": NAME,
    "keys?": (list_of(kind(str, int)), "a list of texts and numbers"),
    "parts?": (kind(list), "a list"),
}
_SUM = (text("[0-9a-f]{64}"), "a SHA-256 sum")
_FILE = {
    "schema": WHOLE,
    "info": OBJECT,
    "graph": (kind(list), "a list of nodes"),
    "modules": OBJECT,
    "image_shape": (optional(is_image), f"null or sizes of at most {LARGEST_IMAGE} values"),
    "more_shapes?": (list_of(is_image), "a list of sizes of images"),
    "fixed_image_size": YES_OR_NO,
    "output?": OBJECT,
    "made?": OBJECT,
    "report?": OBJECT,
    "checksums?": OBJECT,
}
_CHECKSUMS = {f"{TENSORS}?": _SUM, f"{DESCRIPTION}?": _SUM}
_NODE = {
    "name": NAME,
    "op": one_of("placeholder get_attr call_module call_function call_method output".split()),
    "target": TEXT,
    "args": (tagged("tuple", list), "a tuple"),
    "kwargs": (tagged("dict", dict), "a dict"),
    "domain": one_of([domain.value for domain in Domain]),
    "timed?": YES_OR_NO,
    "shape?": SIZES,
    "module_path?": (text(r"[\w +=/:@.-]*"), "dotted plain names"),
}
_LEAF = {"leaf": TEXT}
_MODULE = {"class": TEXT, "arguments": OBJECT, "attributes": OBJECT}
_ARGUMENTS = {  # of our own units; those of others are bounded by the sizes that they multiply to
    "levels?": COUNT,
    "axis?": (optional(between(-8, 8)), "null or an axis"),
    "signed?": YES_OR_NO,
    "coding?": one_of(CODINGS),
}
_CONSTANTS = {  # tags of arguments that hold no other argument
    "float": text("-?inf"),
    "ellipsis": lambda value: value is True,
    "dtype": lambda value: type(value) is str and value in DTYPES,
    "device": text(r"(cpu|cuda|mps|xpu)(:[0-9]{1,3})?"),
}


def check(description: dict, leaves=()) -> None:
    """ValueError with the first thing that no conversion holds.

    Args:
        leaves: paths of the modules that the user gives, whatever is written of them.
    """
    check_fields("the file", description, _FILE)
    check_fields("checksums", description.get("checksums", {}), _CHECKSUMS)
    info, modules = description["info"], description["modules"]
    ConversionInfo.from_dict(info)
    check_fields("info", info, {"levels": COUNT, "timesteps": COUNT_OR_NULL}, others=True)
    for path, written in modules.items():
        _check_path("modules", path)
        if path not in leaves:
            _check_module(f"module {path}", written)
    _check_graph(description["graph"], modules, _tensors_in(description.get("output"), "output"))
    shapes, inputs = len(description.get("more_shapes", ())) + 1, description["graph"]
    inputs = sum(node["op"] == "placeholder" for node in inputs)
    need(shapes in (1, inputs), f"{inputs} inputs have {shapes} sizes")


def _tensors_in(structure: dict | None, where: str) -> int | None:
    """How many tensors a stored structure holds; None without one."""
    if structure is None:
        return None
    check_fields(where, structure, _STRUCTURE)
    what, keys, parts = structure["kind"], structure.get("keys", []), structure.get("parts", [])
    leaf, named = what in ("tensor", "none"), what in ("dict", "fields")
    need(not (leaf and parts), f"{where} of kind {{}} holds parts", what)
    need(len(keys) == named * len(parts), f"{where} holds {len(parts)} parts and {len(keys)} keys")
    need(len(set(keys)) == len(keys), f"{where} holds a key twice: {{}}", keys)
    if what == "fields":
        plain = all(is_name(key) and not key.startswith("_") for key in keys)
        need("name" in structure and plain, f"fields {{}} of {where} must be plain names", keys)
    found = (_tensors_in(part, f"part {i} of {where}") for i, part in enumerate(parts))
    return int(what == "tensor") + sum(found)


def _check_path(where: str, path: str) -> None:
    free = is_path(path) and not hasattr(fx.GraphModule, path.split(".")[0])
    need(free, f"path {{}} of {where} must be dotted plain names", path)


def _check_module(where: str, written) -> None:
    if type(written) is dict and "leaf" in written:
        check_fields(where, written, _LEAF)
        return
    check_fields(where, written, _MODULE)
    check_fields(f"the arguments of {where}", written["arguments"], _ARGUMENTS, others=True)
    neuron = issubclass(find_class(written["class"]), SpikingNeuron)
    fields = {"running_input?": (lambda v: v is True and neuron, "true, and of a neuron")}
    check_fields(where, written["attributes"], fields)
    for name, value in written["arguments"].items():
        need(is_name(name), f"argument {{}} of {where} must be a plain identifier", name)
        list(leaves_of(value, shapes=True))


def _check_graph(graph: list, modules: dict, outputs: int | None) -> None:
    names: set[str] = set()
    size = len(graph) + len(modules)
    for number, node in enumerate(graph):
        need(size <= LARGEST_GRAPH, f"the graph has more than {LARGEST_GRAPH} nodes and values")
        check_fields(f"node {number}", node, _NODE)
        name = node["name"]
        need(name not in names, f"name {name} of node {number} is taken")
        _check_target(f"node {name}", node, modules)
        size += _check_arguments(f"node {name}", node, names, outputs)
        names.add(name)
    ops = [node["op"] for node in graph]
    need("placeholder" in ops, "the graph has no input")
    ends = ops[-1] == "output" and ops.count("output") == 1
    need(ends, "the graph must have one output, at its end")
    unused = sorted(modules.keys() - {n["target"] for n in graph if n["op"] == "call_module"})
    need(not unused, "no node calls the modules {}", unused)


def _check_target(where: str, node: dict, modules: dict) -> None:
    op, target = node["op"], node["target"]
    if op == "call_function":
        find_function(target)
    elif op == "call_module":
        need(target in modules, f"module {{}} of {where} is missing", target)
    elif op == "call_method":
        need(known_operation(target), f"method {{}} of {where} is not on the list", target)
    elif op == "get_attr":
        _check_path(where, target)
    else:
        need(is_name(target), f"target {{}} of {where} must be a plain identifier", target)


def _check_arguments(where: str, node: dict, names: set[str], outputs: int | None) -> int:
    """Number of values in the arguments, which are those of earlier nodes and constants."""
    op, args, kwargs = node["op"], node["args"]["tuple"], node["kwargs"]["dict"]
    values = [*leaves_of(node["args"], names), *leaves_of(node["kwargs"], names)]
    reads = [value for value in values if type(value) is dict]
    if op in ("placeholder", "get_attr"):
        need(not args and not kwargs, f"{where} must have no arguments")
    elif op == "output":
        flat = [{"tuple": reads}] if outputs else reads
        right = args == flat and len(reads) == (outputs or 1) and not kwargs
        need(right, f"{where} must give {f'{outputs} values' if outputs else 'the value'} of nodes")
    elif op == "call_method":
        need(reads and args[:1] == reads[:1], f"{where} must call a method of a node's value")
    elif op == "call_function":
        _check_function(where, node["target"], args, kwargs, values)
    _check_numbers(where, "" if op == "call_module" else node["target"].rpartition(".")[2], values)
    return len(values)


def _check_function(where: str, target: str, args: list, kwargs: dict, values: list) -> None:
    texts = [value for value in values if type(value) is str]
    reads = [value for value in values if type(value) is dict]
    if target == "builtins.getattr":
        known = len(reads) == len(texts) == 1 and args == reads + texts and not kwargs
        readable = known and texts[0] in READABLE
        need(readable, f"attribute {{}} of {where} is not on the list of what is read", texts)
    elif target == "_operator.getitem":
        need(reads and args[:1] == reads[:1], f"{where} must take a part of a node's value")
    elif target.rpartition(".")[0] in PYTHON_HOMES:  # Python would format or repeat a text
        need(reads and not texts, f"{where} must compute with values of nodes, not with texts")


def _check_numbers(where: str, name: str, values: list) -> None:
    """One call may not ask for a tensor or a Python number beyond all bounds."""
    kinds = (int, float) if spelled(name).operation.name in ("arange", "interpolate") else (int,)
    numbers = [value for value in values if type(value) in kinds]
    need(sizes_fit(numbers), f"{where} asks for more than {LARGEST} values: {{}}", numbers)
    grows = "pow" in name or "shift" in name
    small = not grows or all(abs(number) <= LARGEST_POWER for number in numbers)
    need(small, f"{where} has a power above {LARGEST_POWER}: {{}}", numbers)


def leaves_of(value, names=(), shapes: bool = False):
    """Every constant and every {"node": name} in a stored argument; ValueError for an unknown form.

    What holds them (a list, a slice) counts as None.

    Args:
        names: nodes whose values may be read.
        shapes: tensors, of which the sizes are stored, may be there.
    """
    if type(value) not in (list, dict):
        yield value
        return
    need(type(value) is list or len(value) == 1, "{} is no argument", value)
    ((tag, inside),) = value.items() if type(value) is dict else [("tuple", value)]
    yield value if tag == "node" else None
    unknown = "{} is no argument that a conversion has"
    if tag == "node":
        need(type(inside) is str and inside in names, "{} is no earlier node", inside)
    elif tag in _CONSTANTS:
        need(_CONSTANTS[tag](inside), unknown, value)
    elif tag == "shape":
        need(shapes and SIZES[0](inside), unknown, value)
    elif tag == "slice":  # its ends may lie anywhere
        need(type(inside) is list and len(inside) == 3, unknown, value)
        for end in inside:
            yield from () if type(end) is int else leaves_of(end, names)
    elif tag == "dict":
        need(type(inside) is dict and all(map(is_name, inside)), unknown, value)
        for part in inside.values():
            yield from leaves_of(part, names, shapes)
    else:
        need(tag == "tuple" and type(inside) is list, unknown, value)
        for part in inside:
            yield from leaves_of(part, names, shapes)
