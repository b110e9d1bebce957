"""A network without QCFS sites quantised, and compared with itself: which thresholds, which L.

No rule for thresholds wins everywhere (least error with few levels, never a percentile with many), so
rule and levels are chosen by the logits: images are held back from the calibration, and the quantised
network is compared on them with the user's own.
"""

import dataclasses
import logging

import torch
from torch import Tensor, fx

from ..calibrate import Batches
from ..calibrate.thresholds import METHODS, check_percentile, observe_sites
from ..graph import Prepared
from ..graph.planned_sites import open_sites
from ..neurons import MOST_LEVELS
from ..snn.info import Fidelity
from ..support.structure import inputs_of, tensors_of
from ..support.whole_numbers import whole_number
from .passes.sites import open_sites_to_qcfs

log = logging.getLogger(__name__)

LEVELS = (16, 32, 64, 128, 256)
HELD_BACK = 24  # images at most
GOOD = 0.05  # a relative logit error that fewer levels are preferred to
NEAR = 1.1  # times the least error is as good as it


@dataclasses.dataclass(frozen=True)
class _Split:
    """Calibration images, and those held back from them (the same where they are too few)."""

    held: tuple[Tensor, ...]
    rest: list
    apart: bool

    @property
    def images(self) -> int:
        """How many the thresholds come from."""
        return sum(len(inputs_of(batch)[0]) for batch in self.rest)


def quantise_own(
    gm: fx.GraphModule,
    prepared: Prepared,
    calibration: Batches,
    method: str = "auto",
    levels: int | None = None,
    per_channel: bool = True,
    percentile: float = 99.9,
    default_levels: tuple[int, ...] = LEVELS,
) -> Fidelity:
    """Every open site of a network in normal form becomes a QCFS with thresholds from images.

    Args:
        gm: a copy of `prepared.graph`; it is changed.
        method: of `METHODS`, or "auto": the one with the least logit error.
        levels: L; None: the fewest of `default_levels` whose logit error is at most 5 %, or 1.1 times
            the least.

    Returns:
        What was chosen, what the others would have cost, and how near it is to the network itself.
    """
    names = list(METHODS) if method == "auto" else [METHODS.check(method)]
    check_percentile(percentile)
    if levels is not None:
        levels = whole_number("levels", levels, most=MOST_LEVELS, hint=", e.g. 16")
    tried = default_levels if levels is None else (levels,)
    open_choice = len(names) * len(tried) > 1
    split = _held_back(calibration, open_choice)
    kind = max((METHODS[name].observer for name in names), key=lambda c: len(c.__mro__))
    seen = observe_sites(prepared, split.rest, per_channel, kind)
    own = _Outputs(prepared.graph, split.held)
    rows, best = [], None
    for count in tried:
        for name in names:
            rule = METHODS[name]
            thresholds = {s: rule.value(seen[s], percentile, count) for s in seen}
            candidate = prepared.copy() if open_choice else gm
            open_sites_to_qcfs(candidate, count, 1.0, thresholds)
            row = {"method": name, "levels": count, **own.compare(candidate)}
            rows.append((row, thresholds))
    best = _choose([row for row, _ in rows])
    row, thresholds = rows[best]
    if open_choice:
        open_sites_to_qcfs(gm, row["levels"], 1.0, thresholds)
    fidelity = Fidelity(
        method=row["method"],
        levels=row["levels"],
        images=split.images,
        compared=len(split.held[0]),
        held_back=split.apart,
        logit_error=row["logit_error"],
        agreement=row["agreement"],
        tried=[row for row, _ in rows] if open_choice else [],
        site_errors=own.site_errors(gm),
        silent=sum(int((site.largest == 0).sum()) for site in seen.values()),
        channels=sum(value.numel() for value in thresholds.values()),
    )
    log.info(fidelity.words)
    return fidelity


def _held_back(calibration: Batches, wanted: bool) -> _Split:
    """Up to 24 images of the first batch, and a quarter of all at most, where something is open."""
    batches = list(calibration)
    first = inputs_of(batches[0])
    count = sum(len(inputs_of(batch)[0]) for batch in batches)
    held = min(HELD_BACK, len(first[0]) - 1, count // 4) if wanted else 0
    if held < 1:
        return _Split(tuple(x[:HELD_BACK] for x in first), batches, False)
    return _Split(
        tuple(x[:held] for x in first), [tuple(x[held:] for x in first), *batches[1:]], True
    )


def _choose(rows: list[dict]) -> int:
    """The row of the fewest levels that are good enough; the least error among equals."""
    errors = [row["logit_error"] for row in rows]
    enough = max(GOOD, NEAR * min(errors))
    fewest = min(row["levels"] for row, error in zip(rows, errors, strict=True) if error <= enough)
    return min(
        (i for i, row in enumerate(rows) if row["levels"] == fewest), key=lambda i: errors[i]
    )


class _Outputs:
    """What the user's own network gives on some images, at its output and at its sites."""

    def __init__(self, graph: fx.GraphModule, images: tuple[Tensor, ...]):
        weight = next(graph.parameters())
        self.images = [x.to(weight.device, weight.dtype) for x in images]
        self.names = [node.target for node, _ in open_sites(graph)]
        self.logits, self.at_sites = self._run(graph, keep=True)

    @torch.no_grad()
    def _run(self, graph: fx.GraphModule, keep: bool) -> tuple[list[Tensor], dict[str, Tensor]]:
        kept: dict[str, Tensor] = {}
        handles = [
            graph.get_submodule(name).register_forward_hook(
                lambda _m, _i, out, n=name: kept.update({n: out})
            )
            for name in (self.names if keep else ())
        ]
        try:
            outputs = tensors_of(graph(*self.images))
        finally:
            for handle in handles:
                handle.remove()
        return [x for x in outputs if x.is_floating_point()], kept

    def compare(self, quantised: fx.GraphModule) -> dict:
        """{"logit_error": relative, "agreement": per cent of equal top classes, or None}

        The mean over the classes of each image is left out of the error.
        """
        found, _ = self._run(quantised, keep=False)
        classes = len(found) == 1 and found[0].dim() == 2 and found[0].shape[1] > 1
        pair = [found, self.logits]
        if classes:  # what all classes have in common decides nothing
            pair = [[x - x.mean(1, keepdim=True) for x in logits] for logits in pair]
        error = _relative(*pair)
        same = found[0].argmax(1) == self.logits[0].argmax(1) if classes else None
        agreement = 100 * float(same.double().mean()) if classes else None
        return {"logit_error": error, "agreement": agreement}

    def site_errors(self, quantised: fx.GraphModule) -> list[dict]:
        """[{"name", "error"}] of every site: what the quantised network has there against the own."""
        _, found = self._run(quantised, keep=True)
        return [
            {"name": name, "error": _relative([found[name]], [value])}
            for name, value in self.at_sites.items()
            if name in found
        ]


def _relative(found: list[Tensor], expected: list[Tensor]) -> float:
    difference = sum(float((a - b).square().sum()) for a, b in zip(found, expected, strict=True))
    size = sum(float(b.square().sum()) for b in expected)
    return (difference / size) ** 0.5 if size else float(difference > 0)
