"""Which activation sites play a part in softmax attention: scores, queries and keys."""

import dataclasses

from torch import fx

from ..ops import Kind, operation_of
from .sizes import depends_on_image

_THROUGH = (Kind.LINEAR, Kind.ADDITIVE, Kind.PRODUCT, Kind.MASK, Kind.SITE)


@dataclasses.dataclass(frozen=True)
class Roles:
    """Names of sites.

    Attributes:
        scores: what a softmax reads.
        operands: what the product reads that the scores come from, queries and keys.
    """

    scores: frozenset[str]
    operands: frozenset[str]


def attention_roles(gm: fx.GraphModule) -> Roles:
    """The sites of every softmax attention of a graph in normal form."""
    scores: set[str] = set()
    operands: set[str] = set()
    for node in gm.graph.nodes:
        if node.op not in ("call_module", "call_function", "call_method"):
            continue
        name = operation_of(gm, node).name
        if name == "softmax":
            found, products = _walk_back(gm, [node.all_input_nodes[0]])
            scores |= found
            operands |= _walk_back(gm, [n for p in products for n in p.all_input_nodes])[0]
        elif name == "scaled_dot_product_attention":
            operands |= _walk_back(gm, [n for n in node.args[:2] if isinstance(n, fx.Node)])[0]
    return Roles(frozenset(scores), frozenset(operands - scores))


def _walk_back(gm: fx.GraphModule, starts: list[fx.Node]) -> tuple[set[str], list[fx.Node]]:
    """The first sites on every way back to a layer with weights, and the products of two values."""
    sites: set[str] = set()
    products: list[fx.Node] = []
    front = [(node, False) for node in starts]
    seen = set(front)
    while front:
        node, behind_site = front.pop()
        if node.op in ("placeholder", "get_attr") or not depends_on_image(node):
            continue
        row = operation_of(gm, node)
        inputs = [n for n in node.all_input_nodes if depends_on_image(n)]
        if row.kind is Kind.SITE and not behind_site:
            sites.add(node.target)
        elif row.kind is Kind.PRODUCT and len(inputs) > 1:
            products.append(node)
            continue
        elif row.kind is Kind.SITE or (behind_site and row.kind not in _THROUGH):
            continue
        if row.kind is Kind.LINEAR and row.synapses:
            continue
        ahead = [(n, behind_site or row.kind is Kind.SITE) for n in inputs]
        front += [step for step in ahead if step not in seen]
        seen.update(ahead)
    return sites, products
