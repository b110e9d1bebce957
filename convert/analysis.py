"""One look at the whole graph before any work: what cannot be converted, all of it at once."""

from torch import fx, nn

from ..graph import Offence, UnconvertibleError
from ..graph.batch_axis import batch_offences
from ..graph.copying import unwrap
from ..graph.offences import offences
from ..graph.surgery import calls
from ..neurons import ClippedReLU, SpikingNeuron
from ..ops import Kind, operation_of


def check_convertible(gm: fx.GraphModule, needs_sites: bool = True) -> None:
    """Raise `UnconvertibleError` that lists every offending node of a graph in normal form.

    Args:
        needs_sites: refuse a network in which nothing would be swapped.
    """
    found = offences(gm) + batch_offences(gm)
    found += [
        Offence(
            node.target,
            "ClippedReLU",
            node.meta.get("source"),
            "a clipped network is a reference: convert the QCFS network",
        )
        for node, _ in calls(gm, ClippedReLU)
    ]
    inputs = [n for n in gm.graph.nodes if n.op == "placeholder" and n.users]
    if len(inputs) > 1:
        found.append(
            Offence(
                "(inputs)",
                f"{len(inputs)} inputs: {', '.join(map(str, inputs))}",
                None,
                "wrap the model so that it takes one image batch",
            )
        )
    output = next(n for n in gm.graph.nodes if n.op == "output").args[0]
    if not isinstance(output, fx.Node):
        found.append(
            Offence(
                "(output)",
                f"returns a {type(output).__name__.removeprefix('immutable_')}",
                None,
                "wrap the model so that it returns one tensor of logits [B, classes]",
            )
        )
    sites = [
        n
        for n in gm.graph.nodes
        if n.op == "call_module" and operation_of(gm, n).kind in (Kind.ACTIVATION, Kind.SITE)
    ]
    if needs_sites and not sites and not found:
        found.append(
            Offence(
                "(the whole model)",
                "has no ReLU, ReLU6 or QCFS that could spike",
                None,
                "train it with ReLU activations first",
            )
        )
    if found:
        raise UnconvertibleError(found)


def check_model(model: nn.Module) -> nn.Module:
    """The model without its wrapper; ValueError for weights that cannot be used."""
    model = unwrap(model)
    if any(isinstance(module, SpikingNeuron) for module in model.modules()):
        raise ValueError("the model is a spiking network already; give the network it was made of")
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
            if value.numel() and not bool(value.isfinite().all()) and not _may_be_infinite(name):
                raise ValueError(
                    f"{name} holds NaN or infinity; the network is not usable: "
                    "load another checkpoint"
                )
    return model


def _may_be_infinite(name: str) -> bool:
    return name.rpartition(".")[2].endswith("mask")
