"""Rate coding fitted to data: thresholds before the passes, the step-wise bias after them."""

import dataclasses
import logging

import torch
from torch import fx

from ..calibrate import Batches, clipped_statistics, fitted_thresholds, step_bias
from ..graph import VARYING
from ..graph.surgery import calls
from ..neurons import ChannelAffine, SpikingNeuron
from ..ops import Kind, module_of, operation_of
from ..snn.info import Fitted
from ..support.choices import CALIBRATIONS
from ..support.structure import inputs_of
from ..support.whole_numbers import whole_number

log = logging.getLogger(__name__)

MOST_IMAGES = 128  # simulated side by side when the bias is fitted


@dataclasses.dataclass(frozen=True)
class Method:
    """What is fitted: thresholds, the step-wise bias, and that at every site or where it helps most."""

    thresholds: bool
    bias: bool
    everywhere: bool = False


CALIBRATIONS["thresholds"] = Method(thresholds=True, bias=False)
CALIBRATIONS["bias"] = Method(thresholds=True, bias=True)
CALIBRATIONS["bias-everywhere"] = Method(thresholds=True, bias=True, everywhere=True)
CALIBRATIONS["bias-alone"] = Method(thresholds=False, bias=True)  # for ablations


class Calibration:
    """The images, what the clipped network does on them, and what is fitted to that.

    Args:
        gm: the QCFS network in normal form, masks in place.
        loader: batches of images, or of (images, labels).
        name: of a method of `CALIBRATIONS`. Where it helps most, a bias stands at the sites that
            read a sum of spike streams; at every site where a network has none.
        steps: T up to which a bias is fitted.

    Raises:
        ValueError: no images, NaN activations, a bias without steps.
    """

    def __init__(self, gm: fx.GraphModule, loader, name: str, steps: int | None):
        self.name, self.method = CALIBRATIONS.check(name), CALIBRATIONS[name]
        if self.method.bias:
            what = ": the largest T that the step-wise bias is fitted for, e.g. 128"
            steps = whole_number("calibration_steps", steps, hint=what)
        weight = next(gm.parameters())
        names = [node.target for node in gm.graph.nodes if node.op == "placeholder"]
        batches = [
            tuple(x.to(weight.device, weight.dtype) for x in inputs_of(images))
            for images in Batches(loader, names)
        ]
        self.seen = sum(len(inputs[0]) for inputs in batches)
        if self.seen == 0:
            raise ValueError(
                "the calibration loader gives no images; give 25 to 50 images of the training split"
            )
        self.steps = steps
        self.images = tuple(torch.cat(x)[:MOST_IMAGES] for x in zip(*batches, strict=True))
        self.statistics = clipped_statistics(gm, batches)
        if len(self.images[0]) < self.seen and self.method.bias:
            means = clipped_statistics(gm, [self.images])
            for name, site in self.statistics.items():
                site.total, site.images = means[name].total, means[name].images

    def fit_thresholds(self, gm: fx.GraphModule) -> None:
        if not self.method.thresholds:
            return
        for name, value in fitted_thresholds(gm, self.statistics, self.seen).items():
            gm.get_submodule(name).set_threshold(value)

    def fit_bias(self, network) -> None:
        """Fit and set the bias of a `SpikingNetwork`, and note it in `network.info`."""
        sites, streams = [], True
        if self.method.bias:
            sites = bias_sites(network.network)
            streams = bool(sites)
        if self.method.everywhere or not streams:
            sites = list(network.sites)
        size = 0
        if sites:
            tables = step_bias(network, self.images, self.steps, sites, self.statistics)
            for name, table in tables.items():
                network.sites[name].neuron.step_bias = table
                size += table.numel()
        fitted = sum(site.threshold.numel() for site in network.sites.values())
        info = network.info
        info.calibration = Fitted(
            method=self.name,
            images=self.seen,
            steps=self.steps if sites else None,
            bias_images=len(self.images[0]) if sites else 0,
            bias_sites=sites,
            threshold_parameters=fitted,
            bias_parameters=size,
        )
        info.calibration_text = self._text(info.calibration, streams)
        log.info(info.calibration_text)

    def _text(self, made: Fitted, streams: bool) -> str:
        text = (
            f"calibrated on {made.images} images: {made.threshold_parameters} thresholds, "
            "none above the trained one"
        )
        if not made.bias_parameters:
            return text
        why = "" if streams else " (every one: no site reads a sum of spike streams)"
        return (
            f"{text}; step-wise bias for {made.steps} steps at {len(made.bias_sites)} sites{why}, "
            f"{made.bias_parameters} values from {made.bias_images} images, which replaces the "
            f"constant bias there and ends after step {made.steps}; weight layers still see {{0,s}}"
        )


def bias_sites(gm: fx.GraphModule) -> list[str]:
    """Sites that read a sum of streams (a residual stream), directly or after a norm."""
    return [
        node.target
        for node, _ in calls(gm, SpikingNeuron)
        if _reads_sum(gm, node.all_input_nodes[0])
    ]


def _reads_sum(gm: fx.GraphModule, node: fx.Node) -> bool:
    """Whether an addition of two streams lies before, with norms and reorderings between at most."""
    if node.op in ("placeholder", "get_attr") or node.meta["domain"] not in VARYING:
        return False
    row = operation_of(gm, node)
    varying = [n for n in node.all_input_nodes if n.meta["domain"] in VARYING]
    if row.kind is Kind.ADDITIVE and len(varying) > 1:
        return True
    moves = node.op != "call_module" and row.kind is Kind.LINEAR
    passes = moves or isinstance(module_of(gm, node), ChannelAffine)
    return passes and any(_reads_sum(gm, n) for n in varying)
