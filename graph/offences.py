"""What a node cannot be converted for, and what else is refused in a model that cannot be traced."""

from torch import fx, nn

from ..neurons import QCFS
from ..ops import (
    UNKNOWN_REMEDY,
    Kind,
    module_of,
    module_operation,
    operation_of,
)
from .errors import Offence
from .nodes import place_of, words_of
from .sizes import reads_pixels
from .surgery import calls

_PLAIN_RELU = (
    "a plain ReLU beside QCFS sites: call insert_qcfs on the network without QCFS, which quantises "
    "all of them"
)
_BATCH_STATISTICS = "it uses the statistics of the batch: train it with track_running_stats=True"


def offence(root: nn.Module, node: fx.Node, quantised: bool, leaves, sites: str) -> Offence | None:
    """Why a node of a graph over the modules of `root` cannot be converted, or None.

    Args:
        quantised: the network has QCFS sites: smooth activations are analog there, ReLU is refused.
        sites: "all": smooth activations are analog, whatever the network is.
        leaves: names of modules that the user marked as leaves.
    """
    if node.op in ("placeholder", "get_attr", "output"):
        return None
    row = operation_of(root, node, leaves)
    remedy = _remedy(row, module_of(root, node), quantised, sites)
    if not remedy or (row.kind is Kind.ACTIVATION and not reads_pixels(node)):
        return None
    return Offence(place_of(node), words_of(root, node), node.meta.get("source"), remedy)


def _remedy(row, module: nn.Module | None, quantised: bool, sites: str) -> str:
    """What to do about an operation; empty if it can be converted."""
    if row.kind is Kind.ACTIVATION:
        return _PLAIN_RELU if quantised else ""
    if row.kind is Kind.NORM:
        return _BATCH_STATISTICS if getattr(module, "running_mean", 0) is None else ""
    if row.kind is Kind.SMOOTH:
        return "" if quantised or sites == "all" else row.remedy
    if row.kind is Kind.FUSED:
        return UNKNOWN_REMEDY  # of a form that could not be written as a product and a sum
    return row.remedy if row.kind is Kind.REFUSED else ""


def offences(gm: fx.GraphModule, sites: str = "relu") -> list[Offence]:
    """What the tracer noted and what the table refuses in a graph in normal form."""
    quantised = bool(calls(gm, QCFS))
    last = _behind_the_last_layer(gm)  # a tanh there acts on the readout, and nothing reads it
    nodes = (
        n for n in gm.graph.nodes if n not in last or operation_of(gm, n).kind is not Kind.SMOOTH
    )
    found = [offence(gm, node, quantised, gm.meta["leaves"], sites) for node in nodes]
    return gm.meta.get("offences", []) + [o for o in found if o is not None]


def _behind_the_last_layer(gm: fx.GraphModule) -> set[fx.Node]:
    """Nodes from which no weight layer, product or activation site is reached."""
    found: set[fx.Node] = set()
    for node in reversed(gm.graph.nodes):
        readers = [n for n in node.users if n.op != "output"]
        rows = (operation_of(gm, n) for n in readers)
        end = not any(row.synapses or row.kind in (Kind.ACTIVATION, Kind.SITE) for row in rows)
        if node.op.startswith("call_") and end and all(n in found for n in readers):
            found.add(node)
    return found


def others_refused(root: nn.Module, graph: fx.Graph, leaves, sites: str) -> list[Offence]:
    """What the table refuses in a model whose trace stopped: before that line, and in modules after.

    Operations that the table does not know are left to the whole graph, which is brought into normal
    form first.

    Args:
        graph: what was traced until it stopped.
        sites: see `offence`.
    """
    quantised = any(isinstance(module, QCFS) for module in root.modules())
    found = [o for node in graph.nodes if (o := offence(root, node, quantised, leaves, sites))]
    found = [o for o in found if o.remedy not in (UNKNOWN_REMEDY, _PLAIN_RELU)]
    known = {node.target for node in graph.nodes if node.op == "call_module"} | set(leaves)
    for path, module in root.named_modules():
        if not path or any(path == name or path.startswith(f"{name}.") for name in known):
            continue
        remedy = _remedy(module_operation(module), module, quantised, sites)
        if remedy and remedy not in (UNKNOWN_REMEDY, _PLAIN_RELU, _BATCH_STATISTICS):
            what = f"{type(module).__name__}, which the trace did not reach"
            found.append(Offence(path, what, None, remedy))
            known.add(path)
    return found
