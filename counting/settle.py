"""From the ledger of a run to its totals per image: MAC, AC, synapses, the quantised twin."""

import dataclasses
from collections import Counter
from collections.abc import Callable

from .alphabet import ANALOG, Alphabet
from .ledger import Ledger, Row, Side, Site


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of the network, per image.

    Attributes:
        left, right: what its operands were over the whole run; weights are analog.
        macs, acs: one of the two is 0.
        rate_estimate: ACs by the usual estimate, rate x dense operations; 0 for MACs.
        synapses: connections after spikes, per image and step; 0 for MACs.
        events: spikes that arrive per image (0 for MACs).
        image: it sees the image, before any activation.
        once: its input does not change over time.
        increments: a product that is brought up to date by spikes.
        twin: nonzero activations times their fan-out in the quantised twin; MACs of an image layer.
        calls: how often it is computed per image: 1, or once per step.
        weights, inputs, outputs: elements of the weights, and of data and result in one call.
    """

    name: str
    kind: str
    detail: str
    left: Alphabet
    right: Alphabet
    macs: float
    acs: float
    rate_estimate: float
    synapses: float
    events: float
    image: bool
    once: bool
    calls: float
    twin: float
    increments: bool
    weights: int
    inputs: float
    outputs: float

    @property
    def spiking(self) -> bool:
        """Whether spikes drive it."""
        return self.left.spikes or self.right.spikes

    @property
    def input(self) -> str:
        """What it sees: "analog", "signed spikes {-s,0,s}", "spikes {0,1} with analog", ..."""
        return in_words(self.left, self.right, self.kind != "product", str)

    @property
    def words(self) -> str:
        """The same, kinds of spikes alone."""
        words = in_words(self.left, self.right, self.kind != "product", lambda a: a.words)
        return f"{words}, by increments" if self.increments else words


def in_words(left: Alphabet, right: Alphabet, weights: bool, say: Callable) -> str:
    """What an operation sees.

    Args:
        weights: one of the two is its weights, of which nothing is said.
        say: an operand in words.
    """
    if left.spikes and right.spikes:
        return say(left) if say(left) == say(right) else f"{say(left)} with {say(right)}"
    if left.analog and right.analog:
        return say(ANALOG)
    driver = say(left if left.spikes else right)
    return driver if weights else f"{driver} with analog"


@dataclasses.dataclass(frozen=True)
class SiteTotals:
    """One neuron layer, per image.

    Attributes:
        firing_rate: spikes per neuron and step (whatever their height).
        neurons: how many there are.
        updates: neurons times steps.
        spikes: values sent that are not 0.
        alphabet: what it was seen to send.
    """

    firing_rate: float
    neurons: float
    updates: float
    spikes: float
    alphabet: Alphabet


@dataclasses.dataclass(frozen=True)
class Totals:
    """A run's counts per image (the mean over the images seen).

    Attributes:
        rate_estimate: `acs` by the usual estimate, firing rate x dense operations.
        synapses: connections after spikes.
        other, other_at: elementary operations without synapses, by kind and by module or node.
        sites: the neuron layers.
        uncounted: operations without a handle, and how often they were met.
        image_macs, twin_operations: the quantised twin's two parts; None if not known.
        weight_operations: dense operations of weight layers (all steps), spike-driven or not, and
            how many of them are driven by spikes.
    """

    operations: tuple[Operation, ...]
    macs: float
    acs: float
    rate_estimate: float
    synapses: float
    other: dict[str, float]
    other_at: dict[str, float]
    uncounted: dict[str, int]
    sites: dict[str, SiteTotals]
    image_macs: float
    twin_operations: float | None
    twin_unknown: str
    weight_operations: float
    spike_driven_weight_operations: float

    @property
    def firing_rate(self) -> dict[str, float]:
        """Of each neuron layer."""
        return {name: site.firing_rate for name, site in self.sites.items()}

    @property
    def spikes(self) -> float:
        """Of all neuron layers."""
        return sum(site.spikes for site in self.sites.values())

    @property
    def spike_driven_share(self) -> float | None:
        """Share of the weight layers' operations that spikes drive; None without weight layers."""
        if not self.weight_operations:
            return None
        return self.spike_driven_weight_operations / self.weight_operations


@dataclasses.dataclass(frozen=True)
class _Verdict:
    """One row decided: its ACs over the run (None: it is dense), the side that drives it."""

    left: Alphabet
    right: Alphabet
    acs: int | None = None
    driver: Side | None = None
    rate: float = 0.0


def settle(ledger: Ledger, spiking: bool) -> Totals:
    """Decide every operation, and divide by the images.

    Args:
        spiking: False for an ANN, whose operations are all MACs.
    """
    images = ledger.images
    assert images > 0, "nothing was counted"
    rows = list(ledger.rows.values())
    verdicts = [_decide(row, ledger, spiking) for row in rows]
    decided = list(zip(rows, verdicts, strict=True))
    operations = tuple(_operation(row, verdict, ledger) for row, verdict in decided)
    weight = [(row.macs, verdict) for row, verdict in decided if row.kind != "product"]
    twin = sum(row.activations for row in rows if not row.image)
    return Totals(
        operations=operations,
        macs=_mean(sum(row.macs for row, verdict in decided if verdict.acs is None), images),
        acs=_mean(sum(verdict.acs or 0 for verdict in verdicts), images),
        rate_estimate=sum(operation.rate_estimate for operation in operations),
        synapses=sum(operation.synapses for operation in operations),
        other=_by(1, ledger),
        other_at=_by(0, ledger),
        uncounted=dict(ledger.uncounted),
        sites={name: _site(site, ledger) for name, site in ledger.sites.items()},
        image_macs=_mean(sum(row.macs for row in rows if row.image), images),
        twin_operations=None if ledger.twin_unknown else _mean(twin, images),
        twin_unknown=ledger.twin_unknown,
        weight_operations=_mean(sum(macs for macs, _ in weight), images),
        spike_driven_weight_operations=_mean(
            sum(macs for macs, verdict in weight if verdict.acs is not None), images
        ),
    )


def _by(part: int, ledger: Ledger) -> dict[str, float]:
    """Other operations summed over one part of their keys (module or node, kind)."""
    found: Counter = Counter()
    for key, count in ledger.other.items():
        found[key[part]] += count
    return {name: _mean(n, ledger.images) for name, n in sorted(found.items()) if n}


def _site(site: Site, ledger: Ledger) -> SiteTotals:
    images = ledger.images
    return SiteTotals(
        firing_rate=site.spikes / max(1, site.updates),
        neurons=_mean(site.updates, max(1, ledger.image_steps)),
        updates=_mean(site.updates, images),
        spikes=_mean(site.spikes, images),
        alphabet=site.alphabet,
    )


def _mean(total: int, images: int) -> float | int:
    """A whole number where the images divide the total."""
    return total // images if total % images == 0 else total / images


def _alphabet(side: Side, ledger: Ledger) -> Alphabet:
    """What an operand was over the whole run."""
    if not (side.candidate or side.increments):
        return ANALOG
    alphabet = side.alphabet
    for source in sorted(side.sources):
        alphabet = alphabet.join(dataclasses.replace(ledger.sites[source].alphabet, unit=None))
    return alphabet


def _decide(row: Row, ledger: Ledger, spiking: bool) -> _Verdict:
    sides = (row.left, row.right)
    left, right = (_alphabet(side, ledger) if spiking else ANALOG for side in sides)
    if row.left.increments and row.right.increments and left.spikes and right.spikes:
        both = dataclasses.replace(row.left)
        both.add(row.right)
        both.elements = row.left.elements  # the rate is that of both together
        return _Verdict(left, right, both.events, both, _rate(row.left) + _rate(row.right))
    if row.left.increments or row.right.increments:
        return _Verdict(ANALOG, ANALOG)
    if left.spikes and right.spikes:
        rate = _rate(row.left) * _rate(row.right)
        return _Verdict(left, right, row.pairs, row.left, rate)
    if left.spikes or right.spikes:
        driver = row.left if left.spikes else row.right
        return _Verdict(left, right, driver.events, driver, _rate(driver))
    return _Verdict(left, right)


def _rate(side: Side) -> float:
    return side.nonzero / side.elements if side.elements else 0.0


def _operation(row: Row, verdict: _Verdict, ledger: Ledger) -> Operation:
    images, image_steps = ledger.images, max(1, ledger.image_steps)
    all_calls = images if row.once else image_steps
    driver = verdict.driver
    return Operation(
        name=row.name,
        kind=row.kind,
        detail=row.detail,
        left=verdict.left,
        right=verdict.right,
        macs=_mean(row.macs, images) if driver is None else 0,
        acs=0 if driver is None else _mean(verdict.acs, images),
        rate_estimate=0.0 if driver is None else verdict.rate * row.macs / images,
        synapses=0 if driver is None else driver.connections / image_steps,
        events=0 if driver is None else _mean(driver.nonzero, images),
        image=row.image,
        once=row.once,
        increments=driver is not None and row.left.increments,
        twin=_mean(row.macs if row.image else row.activations, images),
        weights=row.weights,
        calls=_mean(all_calls, images),
        inputs=_mean(row.inputs, all_calls),
        outputs=_mean(row.outputs, all_calls),
    )
