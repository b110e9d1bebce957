"""Every conversion proves itself: with ideal neurons its graph must give what it tends to.

In the first of three steps the neurons send anything at random, then what is missing to clip(x, 0, s)
of what they have read. So a single step differs from the running value, and an operation in a wrong
time domain, an operand or offset that is presented in wrong steps, or steps that are mixed up show in
the second and third step. Clipping is continuous, so rounding decides no level, in either coding.
"""

import contextlib
import logging

import torch
from torch import Tensor, fx

from ..graph import Domain, Offence, UnconvertibleError
from ..graph.copying import copy_model
from ..graph.errors import FAILURES
from ..graph.example_images import like_weights
from ..graph.nodes import place_of, words_of
from ..graph.number_check import usual_shapes
from ..graph.surgery import calls, set_module
from ..neurons import QCFS, ClippedReLU
from ..snn import SpikingNetwork
from ..snn.ideal import ideal_neurons
from .reference import Reference, limit

log = logging.getLogger(__name__)

STEPS = 3
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}  # relative; folded norms are rounded
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
    trials, guessed = _trials(before)
    tolerance = TOLERANCE[next(network.network.parameters()).dtype]
    reference = limit(before, network)
    for node, site in calls(before, QCFS):
        if node.target in network.sites:
            set_module(before, node.target, ClippedReLU(site.threshold, site.axis))
    with _full_precision(trials), ideal_neurons(network, quantised=False, uneven=True):
        images, expected = _first_that_fits(reference, trials, guessed)
        if images is None:
            log.info("conversion not checked: no size of image is known to fit")
            return
        try:
            readout = network(images, timesteps=STEPS, chunk=2, readout="mean")
        except FAILURES as error:
            what = f"the spiking network fails on images of shape {tuple(images.shape)} ({error})"
            offence = Offence("(the whole model)", what, None, _REMEDY)
            raise UnconvertibleError([offence]) from error
        error = _difference(readout[1:], expected)
        if not error <= tolerance:
            raise _first_difference(network, reference, images, tolerance, error)
    log.info("conversion checked: %.1e from the %s with ideal neurons", error, reference.name)


def _trials(gm: fx.GraphModule) -> tuple[list[Tensor], bool]:
    """Batches of different images, the example or noise, and whether their size is a guess."""
    example = gm.meta["example"]
    if example is not None and len(example) > 1 and not torch.equal(example[0], example[1]):
        return [example], False
    known = example.shape[1:] if example is not None else gm.meta.get("image_shape")
    shapes = [(2, *known)] if known else usual_shapes(gm)
    random = torch.Generator().manual_seed(0)
    noise = [torch.randn(shape, generator=random) for shape in shapes]
    return [like_weights(gm, images) for images in noise], not known


@contextlib.contextmanager
def _full_precision(trials: list[Tensor]):
    """Products of float32 values are neither rounded to TF32 nor cast by an autocast outside."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.autocast(trials[0].device.type if trials else "cpu", enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def _first_that_fits(reference: Reference, trials: list[Tensor], guessed: bool):
    """The first batch that gives numbers; where several may fit, the same for an image alone."""
    for images in trials:
        try:
            expected = reference(images)
            alone = reference(images[1:], first_index=1) if guessed else expected[1:]
        except (*FAILURES, ArithmeticError):
            continue
        finite = isinstance(expected, Tensor) and bool(expected.isfinite().all())
        if finite and _difference(alone, expected[1:]) < 1e-3:
            return images, expected
    return None, None


def _difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference relative to the largest value; NaN where they cannot be compared."""
    if found.shape[-expected.dim() :] != expected.shape:
        return float("nan")
    same = torch.isclose(found, expected, rtol=0, atol=0, equal_nan=True)  # inf - inf is no number
    size = expected.where(expected.isfinite(), 0).abs().amax()
    return float((found - expected).where(~same, 0).abs().amax() / size.where(size > 0, 1))


# -- which operation it is ---------------------------------------------------------------------


def _first_difference(
    network: SpikingNetwork, reference: Reference, images: Tensor, tolerance: float, error: float
) -> UnconvertibleError:
    """Run both once more, the spiking network step by step, and compare all running values."""
    expected = _Values(reference.network)
    expected.run(images)
    running: dict[fx.Node, Tensor] = {}

    def observe(node, module, args, kwargs, output, clock) -> None:
        if not isinstance(output, Tensor):
            return
        if node.meta["domain"] is Domain.STREAM:
            t, coding = clock.start + 1, network.coding
            before = coding.total(running[node], t - 1) if t > 1 else 0
            output = coding.running(before + output, t)
        running[node] = output.clone()

    with network.observe(observe):
        network(images, timesteps=STEPS, chunk=1, readout="mean")
    for node in network.network.graph.nodes:
        value = expected.values.get(node.meta.get("value_of"))
        if node in running and isinstance(value, Tensor) and value.is_floating_point():
            difference = _difference(running[node], value)
            if not difference <= tolerance:
                return _refusal(network.network, node, difference, reference.name)
    return _refusal(network.network, None, error, reference.name)


class _Values(fx.Interpreter):
    """Runs a graph and keeps what all nodes give, by name."""

    def __init__(self, gm: fx.GraphModule):
        super().__init__(gm)
        self.values: dict[str, object] = {}

    def run_node(self, node: fx.Node):
        self.values[node.name] = super().run_node(node)
        return self.values[node.name]


def _refusal(gm, node: fx.Node | None, difference: float, name: str) -> UnconvertibleError:
    if node is None:
        path, operation, source = "(the whole model)", "a step changes what another gives", None
    else:
        path, operation, source = place_of(node), words_of(gm, node), node.meta.get("source")
    what = f"{operation}: over time it is not what it is in the {name} (off by {difference:.2g})"
    return UnconvertibleError([Offence(path, what, source, _REMEDY)])
