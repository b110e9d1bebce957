"""Every conversion proves itself: with ideal neurons its graph must give what it tends to.

In the first of three steps the neurons send anything at random, then what is missing to the
activations of the network that the conversion claims to tend to. So a single step differs from the
running value: an operation in a wrong time domain, an operand or offset that is presented in wrong
steps, a wrong mask, or steps that are mixed up show in what the next neurons have read after the
second and third step. As neurons aim at the true activations, neither rounding nor a fault adds up.
"""

import logging
import math
from collections.abc import Iterable

import torch
from torch import Tensor, fx

from ..graph import Domain, Offence, UnconvertibleError
from ..graph.copying import copy_model
from ..graph.domains import VARYING
from ..graph.errors import FAILURES
from ..graph.example_images import like_weights, possible_shapes
from ..graph.inputs import known_shapes, shapes_of
from ..graph.nodes import place_of, words_of
from ..graph.outputs import output_nodes
from ..graph.sizes import reads_pixels
from ..graph.surgery import calls
from ..neurons import QCFS, ClippedReLU, Clock, Coding, SpikingNeuron
from ..snn import SpikingNetwork
from ..snn.ideal import ideal_neurons
from ..support.precision import without_tf32
from ..support.structure import inputs_of, tensors_of
from .reference import Reference, limit

log = logging.getLogger(__name__)

STEPS = 3
TOLERANCE = {  # between two sites, of the largest value
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.float16: 2e-2,
    torch.bfloat16: 2e-1,
}
_REMEDY = "this is a fault of the conversion, please report it; check=False converts all the same"


def remember(gm: fx.GraphModule) -> fx.GraphModule:
    """A copy of the network before its passes; nodes of `gm` note what they are called there."""
    for node in gm.graph.nodes:
        node.meta["value_of"] = node.name
    return copy_model(gm)


@torch.no_grad()
def check_conversion(network: SpikingNetwork, before: fx.GraphModule) -> None:
    """Refuse a spiking network that does not tend to the network that it was made of.

    Args:
        before: what `remember` gave; it is used up.

    Raises:
        UnconvertibleError: names the first operation whose value over time is not the network's.
    """
    if network.info.attention == "per-step":
        log.info("conversion not checked: attention 'per-step' tends to no other network")
        return
    reference = limit(before, network)
    sites = {node.target: node.args[0] for node, _ in calls(before, QCFS, ClippedReLU)}
    trials, guessed = _trials(before)
    with without_tf32():
        images, values, coarsest = _first_that_fits(reference, set(sites.values()), trials, guessed)
        if images is None:
            log.info("conversion not checked: no size of image is known to fit")
            return
        reads = {name: values[node] for name, node in sites.items() if name in network.sites}
        outputs = [values.get(node) for node in output_nodes(reference.network)]
        errors = _simulate(network, images, reads, outputs)
        tolerance = TOLERANCE[coarsest]
        if not max(errors.values()) <= tolerance:
            raise _first_difference(network, reference, images, reads, tolerance)
    worst = max(errors.values())
    log.info("conversion checked: within %.1e of the %s at every site", worst, reference.name)


def _trials(gm: fx.GraphModule) -> tuple[Iterable[tuple[Tensor, ...]], bool]:
    """Batches of different images, the example or noise, and whether their size is a guess."""
    example = gm.meta["example"]
    if example is not None:
        given = inputs_of(example)
        if any(len(x) > 1 and not torch.equal(x[0], x[1]) for x in given):
            return [given], False
    known = known_shapes(gm) if example is None else shapes_of(example)
    shapes = [[(2, *shape) for shape in known]] if known else ([s] for s in possible_shapes(gm))
    random = torch.Generator().manual_seed(0)
    noise = (tuple(torch.randn(shape, generator=random) for shape in one) for one in shapes)
    return (tuple(like_weights(gm, x) for x in one) for one in noise), not known


def _first_that_fits(reference: Reference, wanted: set, trials: Iterable, guessed: bool):
    """The first batch that gives numbers, the values of these nodes and of the outputs, and the
    coarsest number type that the network computes with.

    If the size is a guess, an image alone must give the same as in the batch.
    """
    outputs = output_nodes(reference.network)
    for images in trials:
        try:
            run = _Values(reference, wanted | set(outputs))
            values = run.run_all(images)
            alone = tensors_of(reference(*(x[1:] for x in images), first_index=1))
        except FAILURES:
            continue
        found = [
            (values[node], one) for node, one in zip(outputs, alone, strict=True) if node in values
        ]
        if not found or not all(bool(value.isfinite().all()) for value, _ in found):
            continue
        if not guessed or all(_difference(x, y[1:], _size(y)) < 1e-3 for y, x in found):
            return images, values, run.coarsest
    return None, None, None


class _Values(fx.Interpreter):
    """Runs a reference network and keeps the tensors that some of its nodes give.

    Attributes:
        coarsest: floating-point type of the least precision that a value made of pixels has.
    """

    def __init__(self, reference: Reference, wanted):
        super().__init__(reference.network)
        self.clock, self.wanted = reference.clock, set(wanted)
        self.kept: dict[fx.Node, Tensor] = {}
        self.coarsest = torch.float64

    def run_all(self, images: tuple[Tensor, ...]) -> dict[fx.Node, Tensor]:
        self.clock.batch, self.clock.first_index = len(images[0]), 0
        self.run(*images)
        return self.kept

    def run_node(self, node: fx.Node):
        value = super().run_node(node)
        if isinstance(value, Tensor) and value.is_floating_point():
            coarser = torch.finfo(value.dtype).eps > torch.finfo(self.coarsest).eps
            if coarser and reads_pixels(node):
                self.coarsest = value.dtype
            if node in self.wanted:
                self.kept[node] = value
        return value


def _simulate(network: SpikingNetwork, images: tuple, reads: dict, expected: list) -> dict:
    """{site or "(output ...)": error of the running value that it reads}, steps side by side."""
    compared = _Comparison(network.coding)

    def observe(node, module, args, kwargs, output, clock) -> None:
        if isinstance(module, SpikingNeuron):
            compared.add(node.target, args[0], reads[node.target], module.running_input, clock)

    readouts = tensors_of(_run(network, images, reads, observe, chunk=2))
    whole = Clock(steps=STEPS, batch=len(images[0]))
    for number, (readout, value) in enumerate(zip(readouts, expected, strict=True)):
        if value is not None:  # answers and indices have no value
            compared.add(f"(output {number})", readout.flatten(0, 1), value, True, whole)
    return compared.errors


def _run(network: SpikingNetwork, images: tuple, reads: dict, observe, chunk: int):
    """The readout with ideal neurons; an operation that fails is refused by name."""
    ideal = ideal_neurons(network, not network.coding.clips, aims=reads, uneven=True)
    done: list[fx.Node] = []
    with ideal, network.observe(observe), network.observe(lambda node, *_: done.append(node)):
        try:
            return network(*images, timesteps=STEPS, chunk=chunk, readout="mean")
        except FAILURES as error:
            order = [*network.executor.fixed, *network.executor.timed]
            at = order.index(done[-1]) + 1 if done else 0
            node = order[at] if at < len(order) else None
            while node is not None and "value_of" not in node.meta:  # put in by a pass
                node = next(iter(node.all_input_nodes), None)
            size = f"on {len(images[0])} images in {STEPS} steps ({error})"
            raise _refusal(network.network, node, f"cannot run {size}") from error


class _Comparison:
    """Compares running values with what they should be, as the network runs.

    Attributes:
        errors: {name: largest difference from the second step on, relative to the largest value}.
    """

    def __init__(self, coding: Coding):
        self.coding = coding
        self.errors: dict[str, float] = {}
        self._totals: dict[str, Tensor] = {}
        self._sizes: dict[str, float] = {}

    def add(self, name: str, x: Tensor, expected: Tensor, running: bool, clock: Clock) -> None:
        """Compare a chunk x [K * B, ...] of a stream, or of running values."""
        for t, value in enumerate(clock.split(x) if clock.steps > 1 else [x], clock.start + 1):
            if not running:
                self._totals[name] = value = self._totals.get(name, 0) + value
                value = self.coding.running(value, t)
            if t == 1:  # what is added up later on is as large, and rounded as coarsely
                self._sizes[name] = max(_size(value), _size(expected))
            else:
                error = _difference(value, expected, self._sizes[name])
                self.errors[name] = max(error, self.errors.get(name, 0.0))


def _size(x: Tensor) -> float:
    return float(x.where(x.isfinite(), 0).abs().amax())


def _difference(found: Tensor, expected: Tensor, size: float) -> float:
    """Largest difference relative to a size; infinite for another shape or number of values."""
    if found.shape != expected.shape:
        return math.inf
    same = torch.isclose(found, expected, rtol=0, atol=0, equal_nan=True)  # inf - inf is no number
    difference = float((found - expected).where(~same, 0).abs().amax())
    return math.inf if math.isnan(difference) else difference / (size or 1.0)


# -- which operation it is ---------------------------------------------------------------------


def _first_difference(
    network: SpikingNetwork, reference: Reference, images: tuple, reads: dict, tolerance: float
) -> UnconvertibleError:
    """Run once more, step by step, and compare what every node gives."""
    gm = reference.network
    values = _Values(reference, gm.graph.nodes).run_all(images)
    named = {node.name: value for node, value in values.items()}
    compared = _Comparison(network.coding)

    def observe(node, module, args, kwargs, output, clock) -> None:
        name = node.meta.get("value_of")
        if name in named:
            running = node.meta["domain"] is not Domain.STREAM
            compared.add(name, output, named[name], running, clock)
            if node.meta["domain"] not in VARYING:  # it is there from the first step on
                compared.add(name, output, named[name], running, Clock(start=1))

    _run(network, images, reads, observe, chunk=1)
    wrong = (node for node in values if not compared.errors.get(node.name, 0.0) <= tolerance)
    node = next(wrong, None)
    if node is None:
        return _refusal(gm, None, "lets steps that run side by side change each other")
    return _refusal(gm, node, f"tends to something else than in the {reference.name}")


def _refusal(gm: fx.GraphModule, node: fx.Node | None, what: str) -> UnconvertibleError:
    place, words, source = "(the whole model)", "the conversion", None
    if node is not None:
        place, words, source = place_of(node), words_of(gm, node), node.meta.get("source")
    return UnconvertibleError([Offence(place, f"{words} {what}", source, _REMEDY)])
