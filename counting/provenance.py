"""Where a tensor comes from: weights, the image, a spiking neuron, or arithmetic on analog values.

Each tensor that a forward pass makes carries a `Tag`. The tag says which inputs may be spikes at
all; the values say whether they are. Averages of spikes are never candidates.
"""

import dataclasses
import enum

from torch import Tensor

from .aten import ACTIVATIONS, COMPARE, CONSTANT, PART, PRODUCT, ROUND, SAME, SUM

_ATTRIBUTE = "_spikeswap_tag"


class Kind(enum.Enum):
    WEIGHT = "weight"  # parameters, buffers and what is made of them alone
    IMAGE = "image"  # depends on the image alone and not on time: analog, computed once
    EVENTS = "events"  # event frames: another input each step
    SPIKES = "spikes"  # sent by a neuron, or the answer of a comparison
    UNSURE = "unsure"  # the values decide
    ANALOG = "analog"  # averages, sums of weighted spikes, softmax, membranes


@dataclasses.dataclass(eq=False)
class Tag:
    """What is known about one tensor.

    Attributes:
        kind: see `Kind`.
        run: serial number of the forward pass; tags of an older pass mean nothing.
        sources: names of the neurons whose spikes these are; empty if the values must be looked at.
        key: IMAGE and WEIGHT: fingerprint of the computation, equal for equal values.
        copies: IMAGE: how many time steps hold the same value along the batch axis.
        activated: IMAGE: an activation lies between the image and this tensor.
        steps: SPIKES: time steps along the leading axis, time major; 0 if not known.
        unit: UNSURE: what the values must be multiples of, if that is known.
        increments: ANALOG: of the running value of spikes, how many arrived and in how many elements.
        nonzero: nonzero elements, if already counted.
        spatial: nonzero elements at each place of the last axes: (places, counts).
        version: state of the tensor for which they were counted (writing in place ends them).
    """

    kind: Kind
    run: int
    sources: frozenset[str] = frozenset()
    key: int = 0
    copies: int = 1
    activated: bool = False
    steps: int = 0
    unit: float | None = None
    increments: tuple[int, int] | None = None
    nonzero: int | None = None
    spatial: tuple[tuple[int, ...], Tensor] | None = None
    version: int = -1

    @property
    def candidate(self) -> bool:
        """Whether the tensor may be spikes."""
        return self.kind in (Kind.SPIKES, Kind.UNSURE, Kind.EVENTS)

    def keep(
        self, x: Tensor, nonzero: int, spatial: tuple[tuple[int, ...], Tensor] | None = None
    ) -> None:
        """Remember counts of the tensor as it is now."""
        if not x.is_inference():  # such a tensor does not say when it is written to
            self.nonzero, self.version = nonzero, x._version
            self.spatial = spatial

    def nonzero_count(self, x: Tensor) -> int | None:
        """What `keep` was given, if the tensor has not changed since."""
        return self.nonzero if self._holds(x) else None

    def spatial_counts(self, x: Tensor, places: tuple[int, ...]) -> Tensor | None:
        """Counts by place, if they were kept for these places and the tensor has not changed."""
        held = self.spatial
        return held[1] if held is not None and held[0] == places and self._holds(x) else None

    def _holds(self, x: Tensor) -> bool:
        return self.nonzero is not None and not x.is_inference() and self.version == x._version


def set_tag(x: Tensor, tag: Tag) -> None:
    x.__dict__[_ATTRIBUTE] = tag


def get_tag(x: Tensor, run: int) -> Tag | None:
    tag = x.__dict__.get(_ATTRIBUTE)
    return tag if tag is not None and tag.run == run else None


def derive(name: str, inputs: list[tuple[Tensor, Tag | None]], run: int) -> Tag | None:
    """The tag of an operation's output (IMAGE keys are filled in by the caller).

    Args:
        name: aten name without overload and trailing underscore.
        inputs: tensor arguments with their tags.
    """
    tags = [tag for _, tag in inputs if tag is not None]
    data = [tag for tag in tags if tag.kind is not Kind.WEIGHT]
    known = len(tags) == len(inputs)
    if not data:
        constant = name in CONSTANT or (bool(tags) and known)
        return Tag(Kind.WEIGHT, run) if constant else None
    if name in CONSTANT:
        return Tag(Kind.WEIGHT, run)
    if name in COMPARE:
        return Tag(Kind.SPIKES, run, steps=_steps(data))
    kinds = {tag.kind for tag in data}
    if kinds == {Kind.IMAGE} and known and name not in ROUND:
        activated = name in ACTIVATIONS or any(tag.activated for tag in data)
        return Tag(Kind.IMAGE, run, copies=max(tag.copies for tag in data), activated=activated)
    if name in SAME or name in PART:
        return _kept(name, data, kinds, run)
    if name in ROUND:
        return Tag(Kind.UNSURE, run, steps=_steps(data))
    if kinds & {Kind.ANALOG, Kind.IMAGE}:
        return Tag(Kind.ANALOG, run, steps=_steps(data))
    if name in PRODUCT:
        sources = frozenset().union(*(tag.sources for tag in data))
        spikes = all(tag.kind is Kind.SPIKES and tag.sources for tag in data)
        others = [x for x, tag in inputs if tag is None or tag.kind is Kind.WEIGHT]
        if spikes and all(_per_channel(x) for x in others):
            return Tag(Kind.SPIKES, run, sources, steps=_steps(data))
        return Tag(Kind.UNSURE, run, steps=_steps(data))
    if name in SUM:
        return Tag(Kind.UNSURE, run, steps=_steps(data))
    return Tag(Kind.ANALOG, run, steps=_steps(data))


def _steps(data: list[Tag]) -> int:
    return max((tag.steps for tag in data), default=0)


def _per_channel(x: Tensor) -> bool:
    """One number, or one for each channel."""
    return sum(size > 1 for size in x.shape) <= 1


def _kept(name: str, data: list[Tag], kinds: set[Kind], run: int) -> Tag:
    """Tag of a rearrangement: what all inputs have in common."""
    if kinds & {Kind.ANALOG, Kind.IMAGE}:
        return Tag(Kind.ANALOG, run, steps=_steps(data))
    if kinds == {Kind.SPIKES}:
        known = all(tag.sources for tag in data)
        sources = frozenset().union(*(tag.sources for tag in data)) if known else frozenset()
        return Tag(Kind.SPIKES, run, sources, steps=_steps(data))
    kind = Kind.EVENTS if kinds == {Kind.EVENTS} else Kind.UNSURE
    return Tag(kind, run, steps=_steps(data))
