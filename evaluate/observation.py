"""`observe`: what happens inside a spiking network on a few images, beside its ANN.

`evaluate` keeps sums; this keeps a sample of everything, for figures: which neurons fired when,
membranes over time, and for each neuron layer what it sent against what the ANN computes there.
"""

import dataclasses

import torch
from torch import Tensor, nn

from .activation_maps import Maps, explain
from .ann_values import ann_values
from .calling import Caller, device_of, prepared
from .watching import Watched, watch_converted, watch_direct

IMAGES = 4  # images that are watched by default
RATE_BINS = 20  # of the firing rate, [0, 1]
SENT_BINS, READ_BINS = 20, 40  # of values over the threshold
SENT_RANGE, READ_RANGE = (-1 / 32, 39 / 32), (-2.0, 2.0)  # classes around 0, 1/16, 2/16, ...
_ROWS, _TRACES, _PAIRS = 40, 3, 150


@dataclasses.dataclass
class Layer:
    """One neuron layer, observed.

    Values are in units of the layer's threshold. What lies outside a histogram's range is in its
    first or last bin.

    Attributes:
        name: of the neuron layer.
        neurons: of one image.
        rate: spikes per neuron and step.
        fired: share of the neurons (of all images) that fired at all.
        rates: shares of the neurons in `RATE_BINS` classes of firing rate.
        raster: int8 [T, rows]: what some neurons of the first image sent, drawn at random among
            those that fired.
        membranes: [T, traces]: potential after each step of a few of these, or None.
        ann, snn: [pairs]: value of some neurons in the ANN and in the spiking network, or None.
        error: |snn - ann| / |ann| over all neurons and images, or None.
        sent_ann, sent_snn: shares of the activations in `SENT_BINS` classes; the ANN's may be None.
        read_ann, read_snn: the same for what the activation reads (`READ_BINS` classes): the
            ANN's pre-activation, and the charge that a membrane has received, per step.
    """

    name: str
    neurons: int
    rate: float
    fired: float
    rates: Tensor
    raster: Tensor
    membranes: Tensor | None = None
    ann: Tensor | None = None
    snn: Tensor | None = None
    error: float | None = None
    sent_ann: Tensor | None = None
    sent_snn: Tensor | None = None
    read_ann: Tensor | None = None
    read_snn: Tensor | None = None


@dataclasses.dataclass
class Observation:
    """What `observe` saw.

    Attributes:
        kind: "converted" or "direct".
        timesteps: T.
        images: how many were watched.
        window: steps whose mean is compared with the ANN, or None for a running sum.
        mask: ratio of the network's masks.
        norm: "BN", "LN", "BN and LN" or None: the ANN's normalisation.
        layers: in the order of the data flow.
        skipped: neuron layers that could not be read, each with its reason.
        maps: spike activation maps of one image, or None with the reason in `skipped`.
    """

    kind: str
    timesteps: int
    images: int
    window: tuple[int, int] | None
    mask: float
    norm: str | None
    layers: list[Layer]
    skipped: list[str]
    maps: Maps | None = None


def observe(
    model,
    images: Tensor,
    timesteps: int | None = None,
    ann=None,
    first_index: int = 0,
    map_site: str | None = None,
    labels: Tensor | None = None,
) -> Observation:
    """Run a spiking network on a few images and keep a sample of what its neurons do.

    Args:
        model: a `SpikingNetwork`, or a network with SpikingJelly neurons in multi-step mode that
            is called as model(images, timesteps=T).
        images: [B, C, H, W] (or event frames); a few, 4 are enough.
        timesteps: T (default: the model's own).
        ann: the QCFS network that a converted one was made of.
        first_index: number of the first image in the data set, to which its masks belong.
        map_site: layer of the activation maps (default: the last one with places).
        labels: [B], for the title of the maps.

    Raises:
        ValueError: a model without neurons that are known, no images, an unknown `map_site`.
    """
    if not isinstance(images, Tensor) or images.dim() < 2 or len(images) == 0:
        raise ValueError(
            f"images of shape {getattr(images, 'shape', None)} must be a batch with "
            "at least one image"
        )
    caller = Caller(model, timesteps, chunk=1)
    watch = watch_converted if caller.converted else watch_direct
    with prepared(model, ann):
        images = images.to(device_of(model))
        watched = watch(caller, images, first_index, map_site)
        values = ann_values(model, ann, images, first_index) if ann is not None else {}
        layers = [
            _layer(found, values.get(name), len(images)) for name, found in watched.layers.items()
        ]
        maps, why = explain(watched, ann, images, labels)
    skipped = [*watched.skipped, *([why] if why else [])]
    mask = model.info.mask if caller.converted else 0.0
    return Observation(
        caller.kind,
        watched.steps,
        len(images),
        watched.window,
        mask or 0.0,
        _norm(ann if ann is not None else model),
        layers,
        skipped,
        maps,
    )


def _norm(model) -> str | None:
    """The normalisation of a network, in two letters."""
    kinds = set()
    for module in model.modules() if isinstance(model, nn.Module) else ():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 (no public base)
            kinds.add("BN")
        elif isinstance(module, nn.LayerNorm):
            kinds.add("LN")
    return " and ".join(sorted(kinds)) or None


def _layer(found: Watched, values: tuple[Tensor, Tensor] | None, images: int) -> Layer:
    """One layer's sample.

    Args:
        values: what the ANN's activation reads and gives, [B, ...] each.
    """
    rates = (found.spikes / found.steps).flatten()
    layer = Layer(
        found.name,
        found.spikes.numel() // images,
        float(rates.mean()),
        float((rates > 0).double().mean()),
        _shares(rates, RATE_BINS, (0.0, 1.0)),
        *_sampled(found),
    )
    if found.sent is None:
        return layer
    threshold = found.threshold.double()
    alive = threshold > 0
    scale = torch.where(alive, 1 / threshold, 0.0)
    sent = (found.sent.double() * scale)[alive.expand_as(found.sent)]
    read = (found.read.double() * scale)[alive.expand_as(found.sent)]
    layer.sent_snn = _shares(sent, SENT_BINS, SENT_RANGE)
    layer.read_snn = _shares(read, READ_BINS, READ_RANGE)
    if values is None or values[0].shape != found.sent.shape:
        return layer
    before, after = ((value.double() * scale)[alive.expand_as(value)] for value in values)
    layer.sent_ann = _shares(after, SENT_BINS, SENT_RANGE)
    layer.read_ann = _shares(before, READ_BINS, READ_RANGE)
    size = float((values[1].double()).norm())
    distance = float((found.sent.double() - values[1].double()).norm())
    layer.error = distance / size if size else None
    pick = torch.linspace(0, len(sent) - 1, min(len(sent), 20 * _PAIRS)).long().to(sent.device)
    order = pick[torch.argsort((after[pick] + sent[pick] == 0).int(), stable=True)][:_PAIRS]
    layer.ann, layer.snn = after[order].float().cpu(), sent[order].float().cpu()
    return layer


def _sampled(found: Watched) -> tuple[Tensor, Tensor | None]:
    """Raster [T, rows] of neurons that fired, the busiest one last; membranes [T, traces].

    The traces are of neurons of several rates, but of none that fires at every step.
    """
    sample = found.sample  # [T, S]
    busy = sample.ne(0).sum(0)
    active = busy.nonzero().flatten()
    chosen = active[:_ROWS] if len(active) else torch.arange(min(_ROWS, sample.shape[1]))
    chosen = chosen[torch.argsort(busy[chosen], stable=True)]
    if found.membranes is None:
        return sample[:, chosen], None
    calm = chosen[busy[chosen] < len(sample)]
    calm = calm if len(calm) else chosen
    traces = calm[torch.linspace(0, len(calm) - 1, min(_TRACES, len(calm))).long()]
    return sample[:, chosen], found.membranes[:, traces]


def _shares(values: Tensor, bins: int, limits: tuple[float, float]) -> Tensor:
    """Shares of the values in equal classes; what lies outside is in the first or last one."""
    if values.numel() == 0:
        return torch.zeros(bins)
    low, high = limits
    place = ((values.flatten().double() - low) / (high - low) * bins).floor()
    count = torch.bincount(place.clamp(0, bins - 1).long().cpu(), minlength=bins)
    return (count / values.numel()).float()
