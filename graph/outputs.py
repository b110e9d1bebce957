"""What a graph gives: in the graph one node or a flat tuple of nodes, to the user a structure.

`meta["output"]` of a traced graph holds the `Structure` that the model returns its tensors in; it is
missing where the model returns one tensor.
"""

from torch import fx

from ..ops import operation_of
from ..support.structure import TENSOR, Structure
from .batch_axis import batch_axes
from .errors import Offence
from .nodes import gives_several
from .sizes import depends_on_image, is_number, only_from_sizes
from .surgery import finish

_PLACE = "(output)"
_REMEDY = "return tensors that depend on the image, in tuples, lists, dictionaries or dataclasses"


def output_nodes(gm: fx.GraphModule) -> tuple[fx.Node, ...]:
    """The nodes whose values a graph gives, in the order of its structure."""
    output = next(n for n in reversed(gm.graph.nodes) if n.op == "output").args[0]
    return (output,) if isinstance(output, fx.Node) else tuple(output or ())


def output_structure(gm: fx.GraphModule) -> Structure:
    return gm.meta.get("output", TENSOR)


def output_names(gm: fx.GraphModule) -> list[str]:
    """What the tensors that a graph gives are called, e.g. "logits"; "" of a tensor alone."""
    return list(output_structure(gm).names())


def in_structure(gm: fx.GraphModule, output):
    """What a flat graph has given, as its user knows it."""
    return output if output_structure(gm) is TENSOR else output_structure(gm).fill(output)


def restore_structure(gm: fx.GraphModule) -> None:
    """A flat graph gives its structure itself; a trace of it makes it flat again."""
    structure = gm.meta.pop("output", TENSOR)
    if structure is TENSOR:
        return
    end = next(n for n in reversed(gm.graph.nodes) if n.op == "output")
    with gm.graph.inserting_before(end):
        end.args = (_restored(gm.graph, structure, iter(end.args[0])),)
    finish(gm, 1)


def _restored(graph: fx.Graph, structure: Structure, nodes):
    """Tuples, lists and dictionaries stand in the output; a class is called."""
    if structure.kind in ("tensor", "none"):
        return next(nodes) if structure.kind == "tensor" else None
    values = [_restored(graph, part, nodes) for part in structure.parts]
    pairs = dict(zip(structure.keys, values, strict=True)) if structure.keys else {}
    if structure.kind == "fields":
        return graph.call_function(structure.made_of, (), pairs)
    if structure.kind == "dict":
        plain = structure.made_of is dict
        return pairs if plain else graph.call_function(structure.made_of, (pairs,))
    return tuple(values) if structure.kind == "tuple" else values


def output_offences(gm: fx.GraphModule) -> list[Offence]:
    """Outputs that are no tensors of the image."""
    if not output_nodes(gm):
        if any(offence.module_path == _PLACE for offence in gm.meta.get("offences", ())):
            return []  # it is said already
        what = "None" if output_structure(gm).kind == "none" else "no tensor"
        return [_offence(None, f"returns {what}", _REMEDY)]
    found, axes = [], batch_axes(gm)
    for name, node in zip(output_names(gm), output_nodes(gm), strict=True):
        where = f" as {name!r}" if name else ""
        if is_number(node):
            found.append(_offence(node, f"returns a number{where}", _REMEDY))
        elif not depends_on_image(node) or only_from_sizes(node):
            what = f"returns a tensor that does not depend on the image{where}"
            found.append(_offence(node, what, "leave it out of the output"))
        elif gives_several(gm, node) and operation_of(gm, node).name != "leaf":
            what = f"returns several tensors at once{where}"
            remedy = "give example_inputs=images, or return them one by one"
            found.append(_offence(node, what, remedy))
        elif axes.get(node):
            what = f"returns a tensor whose batch lies on axis {axes[node]}{where}"
            found.append(_offence(node, what, "return [B, ...], and permute it outside"))
    return found


def no_tensor(name: str, value) -> Offence:
    """What is said of a value in the output that is neither a tensor nor None."""
    where = f" as {name!r}" if name else ""
    return _offence(None, f"returns a value of type {type(value).__name__}{where}", _REMEDY)


def _offence(node: fx.Node | None, what: str, remedy: str) -> Offence:
    return Offence(_PLACE, what, node.meta.get("source") if node is not None else None, remedy)
