"""Enters what a forward pass does into the ledger: operations with synapses, neurons, the rest."""

import functools
import math

import torch
from torch import Tensor

from ..neurons import SpikingNeuron
from .alphabet import Alphabet, inspect
from .aten import OTHER
from .contractions import Contraction, Operand, pairs
from .ledger import Ledger, Row, Side, Site
from .modules import declared, steps_of, unit_of
from .nonzero import blocks, count_spikes
from .provenance import Kind, Tag
from .twin import Twin


class Bookkeeper:
    """Writes the entries of all forward passes.

    Args:
        spiking, twin: see `OperationCounter`.
    """

    def __init__(self, spiking: bool, twin: str | None):
        self.spiking = spiking
        self.ledger = Ledger()
        self.run = 0
        self.noted: list[tuple[str, int]] | None = None  # a list keeps elementary operations,
        # until something else is counted
        self.updated = False  # the products that follow are brought up to date by spikes
        self.number: int | None = None  # of the next product within a node; None: geometry tells
        self._twin = Twin(twin) if twin else None
        self._by_place: set[str] = set()
        self._spikes: dict = {}  # what each neuron says that it sends, and the height of one spike

    def begin(self, run: int) -> None:
        """A forward pass begins."""
        self.run = run
        self._spikes = {}

    def close(self, images: int, steps: int | None) -> None:
        """A forward pass of so many images and steps is over."""
        self.ledger.images += images
        self.ledger.image_steps += images * (steps or 1)
        if self._twin:
            self._twin.close(self.ledger)

    def count(self, path: str, kind: str, operations: int) -> None:
        """Elementary operations of a kind, at a module or node."""
        self.ledger.other[path, kind] += operations
        if self.noted is not None:
            self.noted.append((kind, operations))

    def unknown(self, name: str) -> None:
        """An operation without a handle."""
        self.ledger.uncounted[name] += 1
        self.noted = None

    def other(
        self, name: str, path: str, args, out: Tensor, share: int, kind: str | None = None
    ) -> None:
        """An operation without synapses; `kind` overrules the table's."""
        if out.dtype == torch.bool or out.is_floating_point() or out.is_complex():
            cost = OTHER[name].cost
            self.count(path, kind or cost.kind, cost.size(args, out) // share)

    def contract(
        self, name: str, path: str, c: Contraction, tags: list[Tag | None], share: int, once: bool
    ) -> None:
        """An operation with synapses.

        Args:
            name: aten name.
            path: of the module, or name of the node, that it runs in.
            tags: of its two operands.
            share: how often a constant input holds the same values.
            once: its inputs depend on the image alone.
        """
        weights = [t is not None and t.kind is Kind.WEIGHT for t in tags]
        if all(weights):
            return  # prepared once for all images, such as a bias table
        self.noted = None
        kind = c.kind if any(weights) else "product"
        image = not any(
            t is None or t.activated or t.kind not in (Kind.IMAGE, Kind.WEIGHT) for t in tags
        )
        detail, geometry = c.detail, c.signature
        if kind == "linear":  # however the batch is laid out
            geometry = geometry[-2:]
            detail = f"{geometry[0]} to {geometry[1]}"
        row = Row(
            path or name,
            kind,
            detail,
            c.macs // share,
            image=image,
            once=once,
            outputs=c.outputs // share,
        )
        for side, is_weight in zip((c.left, c.right), weights, strict=True):
            if is_weight:
                row.weights += _own_elements(side.tensor)
            else:
                row.inputs += side.tensor.numel() // share
        row.left = self._side(c.left, tags[0])
        row.right = self._side(c.right, tags[1], c.kind == "conv")
        if row.left.candidate and row.right.candidate:
            row.pairs = pairs(c.left.tensor, c.right.tensor)
        if c.bias:
            self.count(path, "bias", c.bias // share)
        key = (path, kind, *geometry, c.left.analog)  # both products of a fused attention
        if self.number is not None:
            key, self.number = (path, self.number), self.number + 1
        if self._twin and not row.image:
            self._twin.add(key, row, c, tags)
        self.ledger.add_row(key, row)

    def _side(self, operand: Operand, tag: Tag | None, kernel: bool = False) -> Side:
        side = Side(connections=operand.connections, elements=operand.tensor.numel())
        if self.updated and self.spiking and tag is not None and tag.increments is not None:
            spikes, elements = tag.increments
            side.increments, side.candidate, side.sources = True, False, tag.sources
            side.nonzero = spikes * (side.elements // elements)  # each copy is a synapse of its own
            side.events = operand.reach * side.nonzero
            return side
        spiking = self.spiking and not (operand.analog or kernel)
        side.candidate = spiking and (tag is None or tag.candidate)
        if not side.candidate:
            return side
        if tag is not None and tag.sources:
            side.sources = tag.sources
        else:
            unit = None if tag is None or tag.unit is None else torch.tensor(tag.unit)
            side.alphabet = inspect(operand.tensor, unit)
            if side.alphabet.analog:
                return side
        if tag is not None and isinstance(operand.reach, Tensor):
            self._by_place |= tag.sources
        side.events = operand.events(tag)
        side.nonzero = operand.nonzero(tag)
        return side

    def neuron(self, name: str, module, tag: Tag | None, out: Tensor) -> Tag:
        """One call of a neuron layer; returns the tag of what it sent."""
        steps = steps_of(module, out) or (max(tag.steps, tag.copies) if tag else 0)
        new = Tag(Kind.SPIKES, self.run, frozenset((name,)), steps=steps)
        site = Site(updates=out.numel())
        site.alphabet = self._count_spikes(name, module, site, new, out)
        self.ledger.add_site(name, site)
        self.count(name, "neuron charge", site.updates)
        self.count(name, "neuron compare", site.updates)
        self.count(name, "neuron reset", site.spikes)
        return new

    def _count_spikes(self, name: str, module, site: Site, tag: Tag, out: Tensor) -> Alphabet:
        """Count what a neuron sent, by place if a convolution after it asks for that.

        Returns its alphabet: what it says, if every value bears that out, else what the values are.
        """
        if module not in self._spikes:  # which do not change within a forward pass
            self._spikes[module] = declared(module), unit_of(module, out)
        alphabet, unit = self._spikes[module]
        places = tuple(out.shape[-2:]) if out.dim() >= 4 and name in self._by_place else ()
        counts, units = count_spikes(out, unit, math.prod(places))
        site.spikes = int(counts.sum())
        tag.keep(out, site.spikes, (places, counts) if places else None)
        if units == site.spikes and alphabet.levels == 1 and not alphabet.signed:
            return alphabet if units else Alphabet()
        ours = isinstance(module, SpikingNeuron)
        parts = blocks(out) if ours else (out,)
        seen = functools.reduce(Alphabet.join, (inspect(x, unit if ours else None) for x in parts))
        within = seen.spikes and seen.levels <= alphabet.levels
        return alphabet if ours and within and (alphabet.signed or not seen.signed) else seen


def _own_elements(x: Tensor) -> int:
    """Elements without those that an expansion repeats."""
    return math.prod(n for n, stride in zip(x.shape, x.stride(), strict=True) if stride)
