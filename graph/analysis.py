"""One look at the whole graph before any work: what cannot be converted, all of it at once."""

from torch import Tensor, fx, nn

from ..neurons import ClippedReLU, SpikingNeuron
from ..ops import Kind, operation_of
from .batch_axis import batch_offences
from .copying import unwrap
from .errors import Offence, UnconvertibleError
from .inputs import input_offences
from .offences import offences
from .outputs import output_offences
from .sizes import reads_pixels
from .surgery import attribute, calls


def check_convertible(gm: fx.GraphModule, sites: str = "relu") -> None:
    """Raise `UnconvertibleError` that lists every offending node of a graph in normal form.

    Args:
        sites: see `prepare`.
    """
    found = offences(gm, sites) + batch_offences(gm) + _unusable(gm)
    found += [
        Offence(
            node.target,
            "ClippedReLU",
            node.meta.get("source"),
            "a clipped network is a reference: convert the QCFS network",
        )
        for node, _ in calls(gm, ClippedReLU)
    ]
    found += input_offences(gm)
    found += output_offences(gm)
    if sites == "relu" and not found and not any(_spikes_at(gm, node) for node in gm.graph.nodes):
        found.append(
            Offence(
                "(the whole model)",
                "has no ReLU, ReLU6 or QCFS between image and output that could spike",
                None,
                'convert it with sites="all" (neuron "multi" or "stbif"), or train it with ReLU '
                "activations first",
            )
        )
    if found:
        raise UnconvertibleError(found)


def _spikes_at(gm: fx.GraphModule, node: fx.Node) -> bool:
    if node.op != "call_module":
        return False
    return operation_of(gm, node).kind in (Kind.ACTIVATION, Kind.SITE) and reads_pixels(node)


def _unusable(gm: fx.GraphModule) -> list[Offence]:
    """Infinite weights and statistics that the graph reads; bounds and masks may be infinite."""
    read: dict[str, Tensor] = {}
    for node in gm.graph.nodes:
        if node.op == "call_module" and node.target not in gm.meta["leaves"]:
            state = gm.get_submodule(node.target).state_dict()
            read.update({f"{node.target}.{name}": value for name, value in state.items()})
        elif node.op == "get_attr":
            value = attribute(gm, node.target)
            if isinstance(value, nn.Parameter) and value.requires_grad:
                read[node.target] = value
    return [
        Offence(name, "holds infinity", None, "load another checkpoint")
        for name, value in read.items()
        if bool(value.isinf().any())
    ]


def check_model(model: nn.Module) -> nn.Module:
    """The model without its wrapper; ValueError for one that spikes and weights that cannot be used."""
    model = unwrap(model)
    if any(map(_spikes, model.modules())):
        raise ValueError(
            "the model is a spiking network already; use it as it is, or give the ReLU or QCFS network "
            "that it was made of"
        )
    parameters = list(model.named_parameters())
    if not parameters:
        raise ValueError("the model has no parameters; give a trained network")
    for name, value in [*parameters, *model.named_buffers()]:
        if value.is_meta:
            raise ValueError(f"{name} is on the meta device, without values; load weights first")
        if value.is_floating_point():
            if value.dtype.itemsize < 4:
                raise ValueError(
                    f"{name} is {value.dtype}; thresholds need at least float32: "
                    "convert model.float()"
                )
            if bool(value.isnan().any()):
                raise ValueError(
                    f"{name} holds NaN; the network is not usable: load another checkpoint"
                )
    return model


def _spikes(module: nn.Module) -> bool:
    """Whether a module is a spiking neuron, ours or one of SpikingJelly."""
    theirs = (c for c in type(module).__mro__ if c.__module__.startswith("spikingjelly."))
    return isinstance(module, SpikingNeuron) or any(c.__name__ == "BaseNode" for c in theirs)
