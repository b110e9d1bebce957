"""What was counted, operation by operation, over the whole run; settled once at the end.

Both readings of an operation, dense (MACs) and driven by spikes (ACs), are kept until the run is
over. Then the joined alphabet of each input decides which one holds. All sums are exact integers,
so batch size, chunk and number of processes leave no trace.
"""

import dataclasses
from collections import Counter

from .alphabet import Alphabet


@dataclasses.dataclass
class Side:
    """One operand of an operation, over the run.

    Attributes:
        candidate: it was a candidate for spikes in every call.
        alphabet: what its values were, where they had to be looked at.
        sources: names of the neurons whose spikes it holds (their alphabets count too).
        events: nonzero elements times what each reaches.
        connections: the same with every element, zero or not.
        nonzero, elements: for the usual estimate, rate x operations.
        increments: counted are the spikes that its running value was brought up to date by.
    """

    candidate: bool = True
    alphabet: Alphabet = Alphabet()
    sources: frozenset[str] = frozenset()
    events: int = 0
    connections: int = 0
    nonzero: int = 0
    elements: int = 0
    increments: bool = False

    def add(self, other: "Side") -> None:
        self.candidate = self.candidate and other.candidate
        self.increments = self.increments and other.increments
        self.alphabet = self.alphabet.join(other.alphabet)
        self.sources = self.sources | other.sources
        self.events += other.events
        self.connections += other.connections
        self.nonzero += other.nonzero
        self.elements += other.elements


@dataclasses.dataclass
class Row:
    """One operation of the network, summed over all its calls.

    Attributes:
        kind: "conv", "linear" or "product".
        macs: of the dense operation, padding included; a constant input counts once per image.
        pairs: nonzero elements of both operands that met (products).
        image: it sees the image, before any activation.
        once: its input is constant in time: computed once per image.
        weights: elements of its weight tensor (0 for a product).
        inputs, outputs: elements of its data and of its result.
        activations: nonzero inputs times what they reach in the network's quantised twin.
    """

    name: str
    kind: str
    detail: str = ""
    macs: int = 0
    pairs: int = 0
    image: bool = False
    once: bool = False
    weights: int = 0
    inputs: int = 0
    outputs: int = 0
    activations: int = 0
    left: Side = dataclasses.field(default_factory=Side)
    right: Side = dataclasses.field(default_factory=Side)

    def add(self, other: "Row") -> None:
        self.macs += other.macs
        self.pairs += other.pairs
        self.image = self.image or other.image
        self.weights = max(self.weights, other.weights)
        self.inputs += other.inputs
        self.outputs += other.outputs
        self.activations += other.activations
        self.left.add(other.left)
        self.right.add(other.right)


@dataclasses.dataclass
class Site:
    """One neuron layer.

    Attributes:
        spikes: values that were not 0.
        updates: neurons times steps times images.
        alphabet: what it was seen to send.
    """

    spikes: int = 0
    updates: int = 0
    alphabet: Alphabet = Alphabet()

    def add(self, other: "Site") -> None:
        self.spikes += other.spikes
        self.updates += other.updates
        self.alphabet = self.alphabet.join(other.alphabet)


@dataclasses.dataclass
class Ledger:
    """Everything that was counted: rows in order of first use, sites, other operations.

    Attributes:
        other: elementary operations, by (module or node, kind).
        images: images seen.
        image_steps: images times time steps.
        uncounted: operations without a handle, and how often they were called.
        twin_unknown: why the quantised twin could not be read off the spikes; empty if it could.
    """

    rows: dict[tuple, Row] = dataclasses.field(default_factory=dict)
    sites: dict[str, Site] = dataclasses.field(default_factory=dict)
    other: Counter = dataclasses.field(default_factory=Counter)
    uncounted: Counter = dataclasses.field(default_factory=Counter)
    images: int = 0
    image_steps: int = 0
    twin_unknown: str = ""

    def add_row(self, key: tuple, row: Row) -> None:
        if key in self.rows:
            self.rows[key].add(row)
        else:
            self.rows[key] = row

    def add_site(self, name: str, site: Site) -> None:
        self.sites.setdefault(name, Site()).add(site)

    def merge(self, other: "Ledger") -> None:
        """Add what another process, or another part of the run, has counted."""
        for key, row in other.rows.items():
            self.add_row(key, row)
        for name, site in other.sites.items():
            self.add_site(name, site)
        self.other.update(other.other)
        self.uncounted.update(other.uncounted)
        self.images += other.images
        self.image_steps += other.image_steps
        self.twin_unknown = self.twin_unknown or other.twin_unknown
