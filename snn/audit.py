"""What a spiking network really does, operation by operation."""

import dataclasses

import torch
from torch import fx, nn

from ..graph import VARYING, Domain
from ..neurons import NEURONS, Accumulate, Clock, Offset, Present, SpikingNeuron
from ..ops import WEIGHT_LAYERS, Kind, module_of, operation_of


@dataclasses.dataclass
class Row:
    """One operation that does arithmetic.

    Attributes:
        operation: kind of operation ("Conv2d", "Linear", "matmul", "neuron if", ...).
        input: "spikes {0,s}", "signed spikes", "multi-level spikes" or "analog".
        arithmetic: "accumulate", "multiply-accumulate" or "other".
        when: "every step" or "once an image".
        count: dense operations an image and step (once: an image), None while unknown.
    """

    name: str
    operation: str
    input: str
    arithmetic: str
    when: str
    count: int | None


@dataclasses.dataclass
class Report:
    """The audit: one row an operation, and what follows from them (contract, section 5)."""

    rows: list[Row]
    info: dict
    counted: bool
    calibration: str | None = None

    @property
    def weight_rows(self) -> list[Row]:
        return [r for r in self.rows if r.arithmetic != "other" and "matmul" not in r.operation]

    @property
    def spike_driven_share(self) -> float | None:
        """Share of the weight-layer operations whose input is spikes, over `timesteps` steps.

        What happens once an image counts once, what happens every step counts T times.
        """
        if not self.counted:
            return None
        steps = self.info.get("timesteps") or 1
        total = {True: 0, False: 0}
        for row in self.weight_rows:
            total[row.input != "analog"] += row.count * (steps if row.when == "every step" else 1)
        everything = sum(total.values())
        return total[True] / everything if everything else 0.0

    @property
    def not_spiking(self) -> list[Row]:
        """Operations on values that are not spikes."""
        return [
            r for r in self.rows if r.input == "analog" and not r.operation.startswith("neuron")
        ]

    def as_dict(self) -> dict:
        return {
            "rows": [dataclasses.asdict(r) for r in self.rows],
            "spike_driven_share": self.spike_driven_share,
            "converges": self.convergence,
        }

    @property
    def convergence(self) -> str:
        """In words: what the readout tends to."""
        if not NEURONS[self.info["neuron"]].coding.clips:
            return "reaches the QCFS network exactly, with the same frozen masks, after some steps"
        if self.info["attention"] == "per-step":
            if any(r.operation in ("softmax", "matmul", "layer norm") for r in self.rows):
                return (
                    "does not converge: softmax, products and layer norms act on the spikes of "
                    "one step (as published for MST), and the mean of a product is not the "
                    "product of the means; attention='accumulated' converges"
                )
        return (
            "tends to the network with clipped ReLU (masked sites at their expectation) as T grows"
        )

    def __str__(self) -> str:
        weights, share = self.weight_rows, self.spike_driven_share
        spiking = sum(r.input != "analog" for r in weights)
        kinds: dict[str, int] = {}
        for row in self.not_spiking:
            kinds[row.operation] = kinds.get(row.operation, 0) + 1
        shown = "unknown before the first simulation" if share is None else f"{100 * share:.2f} %"
        lines = [
            f"{self.info['sites']} activation sites became '{self.info['neuron']}' neurons; "
            f"attention {self.info['attention']}, readout {self.info['readout']}, "
            f"mask {self.info['mask']:g} ({self.info['mask_scaling']})",
            f"{spiking} of {len(weights)} weight layers see spikes; spike-driven share of "
            f"weight-layer operations: {shown}",
            "on analog values: "
            + (", ".join(f"{n} x {k}" for k, n in sorted(kinds.items())) or "nothing"),
            f"readout {self.convergence}",
        ]
        return "\n".join(lines + ([self.calibration] if self.calibration else []))


SPIKES = {"if": "spikes {0,s}", "stbif": "signed spikes", "multi": "multi-level spikes"}


def carries_spikes(gm: fx.GraphModule) -> set[fx.Node]:
    """Nodes whose values are spikes of neurons, possibly masked, reordered or joined."""
    spikes: set[fx.Node] = set()
    for node in gm.graph.nodes:
        if (
            node.op in ("placeholder", "get_attr", "output")
            or node.meta["domain"] is not Domain.STREAM
        ):
            continue
        module = module_of(gm, node)
        keeps = operation_of(gm, node).keeps_spikes
        varying = [n for n in node.all_input_nodes if n.meta["domain"] in VARYING]
        if isinstance(module, SpikingNeuron) or (keeps and all(n in spikes for n in varying)):
            spikes.add(node)
    return spikes


def build_report(network, image_shape: tuple[int, ...] | None) -> Report:
    """Audit of a `SpikingNetwork`; counts need the size of an image [C, H, W]."""
    gm = network.network
    counts = _dense_counts(network, image_shape) if image_shape else {}
    spikes = carries_spikes(gm)
    rows = []
    for node in gm.graph.nodes:
        row = _row(gm, node, spikes, SPIKES[network.info.neuron], counts)
        if row is not None:
            rows.append(row)
    info = {**network.info, "sites": len(network.sites)}
    return Report(rows, info, counted=bool(counts), calibration=network.info.calibration_text)


def _row(gm, node, spikes, spike_name: str, counts: dict) -> Row | None:
    if node.op not in ("call_module", "call_function", "call_method"):
        return None
    if node.meta["domain"] in (Domain.SIZE, Domain.PARAMETER):
        return None
    module = module_of(gm, node)
    name = node.target if module is not None else node.meta.get("module_path", "") or node.name
    operation, arithmetic = _arithmetic(gm, node, module)
    if operation is None:
        return None
    inputs = [n for n in node.all_input_nodes if n.meta["domain"] is not Domain.PARAMETER]
    spiking = bool(inputs) and all(n in spikes for n in inputs)
    if operation == "matmul" and any(n in spikes for n in inputs):
        spiking = True  # spikes times analog values accumulate the analog ones
    if arithmetic == "multiply-accumulate" and spiking:
        arithmetic = "accumulate"
    when = "every step" if node.meta["domain"] in VARYING else "once an image"
    return Row(
        name, operation, spike_name if spiking else "analog", arithmetic, when, counts.get(node)
    )


def _arithmetic(gm, node: fx.Node, module) -> tuple[str | None, str]:
    """Name of the operation (None: it does no arithmetic) and its arithmetic."""
    if isinstance(module, WEIGHT_LAYERS):
        return type(module).__name__, "multiply-accumulate"
    if isinstance(module, SpikingNeuron):
        return f"neuron {module.kind}", "other"
    if isinstance(module, (Accumulate, Present)):
        return (
            (f"accumulate ({module.coding})", "other")
            if isinstance(module, Accumulate)
            else (None, "")
        )
    if isinstance(module, Offset):
        return "offset", "other"
    row = operation_of(gm, node)
    kind = row.kind
    name = type(module).__name__ if module is not None else row.name
    name = {
        "Softmax": "softmax",
        "ChannelAffine": "normalisation",
        "LayerNorm": "layer norm",
        "layer_norm": "layer norm",
        "bmm": "matmul",
        "mm": "matmul",
        "einsum": "matmul",
        "linear": "Linear",
        "conv2d": "Conv2d",
    }.get(name, name)
    if kind is Kind.PRODUCT:
        if name == "matmul":
            return name, "multiply-accumulate"
        return name, "other"
    if kind in (Kind.ADDITIVE, Kind.NONLINEAR, Kind.REFUSED, Kind.MASK):
        return ("mask" if kind is Kind.MASK else name), "other"
    if (
        name == "normalisation"
        or "pool" in name.lower()
        or name in ("mean", "sum", "interpolate", "Upsample")
    ):
        return name, "other"
    if name in ("Linear", "Conv2d"):
        return name, "multiply-accumulate"
    return None, ""


def _dense_counts(network, image_shape: tuple[int, ...]) -> dict[fx.Node, int]:
    """Dense operations of each node for one image and step, from one simulated step of zeros."""
    counts: dict[fx.Node, int] = {}

    def count(node, module, args, kwargs, output, clock: Clock) -> None:
        if not isinstance(output, torch.Tensor):
            return
        size = output.numel() // clock.steps
        if isinstance(module, nn.modules.conv._ConvTransposeNd):
            size = args[0].numel() // clock.steps * module.weight[0].numel()
        elif isinstance(module, WEIGHT_LAYERS):
            size *= module.weight[0].numel()
        elif module is None and operation_of(network.network, node).name in ("matmul", "bmm", "mm"):
            size *= args[0].shape[-1]
        counts[node] = size

    like = next(network.network.parameters(), None)
    if like is None:
        like = next(network.network.buffers())
    images = torch.zeros(1, *image_shape, dtype=like.dtype, device=like.device)
    with network.observe(count):
        network(images, timesteps=1, readout="mean")
    return counts
