"""What a node cannot be converted for, and what else is refused in a model that cannot be traced."""

from torch import fx, nn

from ..neurons import QCFS
from .errors import Offence, module_path
from .operations import (
    RELU_REMEDY,
    UNKNOWN_REMEDY,
    Kind,
    classify,
    classify_module,
    is_pointwise_activation,
    module_of,
)
from .surgery import calls


def offence(root: nn.Module, node: fx.Node, quantised: bool, leaves) -> Offence | None:
    """Why a node of a graph over the modules of `root` cannot be converted, or None.

    Args:
        quantised: the network has QCFS sites: smooth activations are analog there, ReLU is refused.
        leaves: names of modules that the user marked as leaves.
    """
    if node.op in ("placeholder", "get_attr", "output"):
        return None
    kind, remedy = classify(root, node, leaves)
    module = module_of(root, node)
    if kind is Kind.ACTIVATION and quantised:
        kind, remedy = (
            Kind.REFUSED,
            "a plain ReLU beside QCFS sites: call insert_qcfs on the network without QCFS, which "
            "quantises all of them",
        )
    if kind is Kind.NORM and module.running_mean is None:
        kind, remedy = (
            Kind.REFUSED,
            "it uses the statistics of the batch: train it with track_running_stats=True",
        )
    if kind is not Kind.REFUSED or (quantised and is_pointwise_activation(root, node)):
        return None
    if module is not None:
        return Offence(node.target, type(module).__name__, node.meta.get("source"), remedy)
    name = (
        node.target
        if isinstance(node.target, str)
        else getattr(node.target, "__name__", str(node.target))
    )
    path = module_path(node) or "(the model itself)"
    return Offence(path, f"{name}()", node.meta.get("source"), remedy)


def offences(gm: fx.GraphModule) -> list[Offence]:
    """What the tracer noted and what the table refuses in a graph in normal form."""
    quantised = bool(calls(gm, QCFS))
    found = [offence(gm, node, quantised, gm.meta["leaves"]) for node in gm.graph.nodes]
    return gm.meta.get("offences", []) + [o for o in found if o is not None]


def others_refused(root: nn.Module, graph: fx.Graph, leaves) -> list[Offence]:
    """What the table refuses in a model whose trace stopped: before that line, and in modules behind.

    Operations that the table does not know are left to the whole graph, which is brought into normal
    form first.

    Args:
        graph: what was traced until it stopped.
    """
    quantised = any(isinstance(module, QCFS) for module in root.modules())
    left_out = {UNKNOWN_REMEDY, RELU_REMEDY} if quantised else {UNKNOWN_REMEDY}
    found = [o for node in graph.nodes if (o := offence(root, node, quantised, leaves))]
    found = [o for o in found if o.remedy != UNKNOWN_REMEDY]
    known = {node.target for node in graph.nodes if node.op == "call_module"} | set(leaves)
    for path, module in root.named_modules():
        if not path or any(path == name or path.startswith(f"{name}.") for name in known):
            continue
        kind, remedy = classify_module(module)
        if kind is Kind.REFUSED and remedy not in left_out:
            what = f"{type(module).__name__}, which the trace did not reach"
            found.append(Offence(path, what, None, remedy))
            known.add(path)
    return found
