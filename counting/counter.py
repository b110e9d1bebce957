"""Count every operation of a forward pass while it runs, without changing it.

`OperationCounter` sees each tensor operation as PyTorch dispatches it (so functional code, leaf
modules and anybody's own network are covered alike), follows where tensors come from, and writes
what it sees into a `Ledger`. Nothing is assumed about a network beyond that.
"""

import contextlib
import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode

from ..neurons import SpikingNeuron
from .alphabet import inspect
from .contractions import CONTRACTIONS, Contraction, Operand, pairs
from .ledger import Ledger, Row, Side, Site
from .modules import Role, role, steps_of, unit_of
from .nonzero import count_by_unit
from .other import FREE, OTHER
from .provenance import (
    ACTIVATIONS,
    COMPARE,
    CONSTANT,
    PART,
    ROUND,
    SAME,
    VIEWS,
    Kind,
    Tag,
    derive,
    get_tag,
    set_tag,
)
from .timing import TAKES_TIME, copies_of, steps_after
from .twin import Twin

_FIRST_SAMPLE, _SAMPLE = 2**16, 2**12  # elements of a neuron's output that are looked at
# Analog values stay analog, and as many steps, under all operations but these.
_RETAGS = COMPARE | ROUND | CONSTANT | TAKES_TIME
_KNOWN = frozenset({*CONTRACTIONS, *OTHER, *FREE, *SAME, *PART, *CONSTANT, *ACTIVATIONS})


class OperationCounter(TorchDispatchMode):
    """Counts the operations of a model over any number of forward passes.

    >>> counter = OperationCounter(model, spiking=True)
    >>> with counter.attached():
    ...     for images in batches:
    ...         with counter.forward(images) as images:
    ...             readout = model(images, timesteps=8)
    ...         counter.close(images=readout.shape[1], steps=readout.shape[0])
    >>> totals = settle(counter.ledger, spiking=True)

    Args:
        model: any module, or any callable (then nothing is known about its neurons).
        spiking: whether spikes are looked for; an ANN's operations are all MACs.
        twin: how the quantised twin is counted: "activations" (the nonzero inputs as they are: for
            an ANN), "rates" (neurons that fired within the run), "levels" (neurons whose sent
            values do not cancel), or None.
        rate_threshold: "rates": an activation of the twin is nonzero from this firing rate on.

    Attributes:
        seconds: time spent counting so far.
    """

    def __init__(self, model, spiking: bool, twin: str | None = None,
                 rate_threshold: float = 0.0):
        super().__init__()
        self.model, self.spiking = model, spiking
        self.ledger = Ledger()
        self.seconds = 0.0
        self._twin = Twin(twin, rate_threshold) if twin else None
        self._run = 0
        self._turn = 0
        self._by_place: set[str] = set()
        self._silent = 0
        self._entered = False
        self._path: list[str] = []
        self._pending: list[tuple] = []
        self._observing = False
        self._names: dict = {}
        self._weights: dict[int, int] = {}

    # ---- the frame: hooks, one forward pass, its end ------------------------------------------

    @contextlib.contextmanager
    def attached(self) -> Iterator["OperationCounter"]:
        """Hooks on every module while the context lasts; they are gone afterwards."""
        handles = []
        inner = "network." if hasattr(self.model, "observe") else ""
        try:
            if isinstance(self.model, nn.Module):
                for number, tensor in enumerate((*self.model.parameters(), *self.model.buffers())):
                    self._weights[id(tensor)] = number + 1
                for name, module in self.model.named_modules():
                    name, what = name.removeprefix(inner), role(module)
                    handles.append(module.register_forward_pre_hook(self._before(name, what)))
                    handles.append(module.register_forward_hook(self._after(name, what)))
            yield self
        finally:
            for handle in handles:
                handle.remove()

    @contextlib.contextmanager
    def forward(self, images: Tensor, steps: int | None = None) -> Iterator[Tensor]:
        """Count what runs inside. Gives the images to pass on (an alias that is marked as such).

        Args:
            images: [B, C, H, W], or event frames [B, T, C, H, W].
            steps: time steps of the run, if known before.
        """
        self._run += 1
        self._silent, self._path, self._pending = 0, [], []
        self._seen: set[int] = set()
        self._steps, self._image_dims = steps, images.dim()
        alias = images.detach()
        tag = Tag(Kind.IMAGE, self._run, key=1)
        if images.dim() == 5:
            tag = Tag(Kind.EVENTS, self._run, steps=images.shape[1])
        set_tag(alias, tag)
        observe = getattr(self.model, "observe", None)
        self._observing = observe is not None
        with observe(self._node_done) if observe else contextlib.nullcontext():
            self._resume()
            try:
                yield alias
            finally:
                self._pause()
        self._flush("")

    def close(self, images: int, steps: int | None) -> None:
        """End of a forward pass of so many images and time steps (None: an ANN)."""
        start = time.perf_counter()
        self.ledger.images += images
        self.ledger.image_steps += images * (steps or 1)
        if self._twin:
            self._twin.close(self.ledger, steps or 1)
        self.seconds += time.perf_counter() - start

    def _pause(self) -> None:
        """Stop seeing operations (at full speed, unless someone else's mode lies on top)."""
        self._silent += 1
        if self._silent == 1 and _get_current_dispatch_mode() is self:
            self.__exit__(None, None, None)
            self._entered = False

    def _resume(self) -> None:
        self._silent = max(0, self._silent - 1)
        if self._silent == 0 and not self._entered:
            self.__enter__()
            self._entered = True

    # ---- every operation ------------------------------------------------------------------------

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self._silent:
            return func(*args, **kwargs)
        name, known = self._names.get(func) or self._lookup(func)
        if not known:
            with self:  # a composite operation, met whole in inference mode: count its parts
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        out = func(*args, **kwargs)
        start = time.perf_counter()
        self._record(func, name, args, kwargs, out)
        self.seconds += time.perf_counter() - start
        return out

    def _lookup(self, func) -> tuple[str, bool]:
        space, _, name = func._schema.name.partition("::")
        if name.endswith("_") and not name.endswith("__"):
            name = name[:-1]
        name = name if space == "aten" else f"{space}::{name}"
        self._names[func] = name, name in _KNOWN
        return self._names[func]

    def _tag(self, x: Tensor) -> Tag | None:
        number = self._weights.get(id(x))
        if number is not None:
            return Tag(Kind.WEIGHT, self._run, key=number)
        return get_tag(x, self._run)

    def _record(self, func, name, args, kwargs, out) -> None:
        inputs = [(x, self._tag(x)) for x in _tensors((*args, *kwargs.values()))]
        outs = _tensors(out if isinstance(out, (tuple, list)) else (out,))
        if not outs:
            return
        tag = None if name in _RETAGS else next(
            (t for _, t in inputs if t is not None and t.kind is Kind.ANALOG), None)
        if tag is None:
            tag = self._new_tag(name, args, kwargs, inputs, outs[0])
        constant = tag is not None and tag.kind is Kind.IMAGE and self.spiking
        if not (constant and tag.key in self._seen):
            share = tag.copies if constant else 1
            if name in CONTRACTIONS:
                for contraction in CONTRACTIONS[name](args, kwargs, outs[0]):
                    self._contract(name, contraction, share, constant)
            elif tag is None or tag.kind is not Kind.WEIGHT:
                self._count_other(func, name, args, outs[0], inputs, share)
            if constant:
                self._seen.add(tag.key)
        for position, x in enumerate(outs):
            self._mark(x, tag, name, position)

    def _new_tag(self, name, args, kwargs, inputs, out: Tensor) -> Tag | None:
        tag = derive(name, inputs, self._run)
        if tag is None:
            return None
        if tag.kind in (Kind.IMAGE, Kind.WEIGHT):
            tag.key = self._fingerprint(name, args, kwargs)
        data = [(x, t) for x, t in inputs if t is not None and t.kind is not Kind.WEIGHT]
        if data:
            self._place_in_time(name, args, data, out, tag)
        return tag

    def _place_in_time(self, name, args, data, out, tag: Tag) -> None:
        if tag.kind is Kind.IMAGE:
            tag.copies = copies_of(name, args, data, out, self._image_dims, self._steps)
        elif tag.kind is not Kind.WEIGHT:
            tag.steps = steps_after(name, args, data, out)
        x, old = data[0]
        same = name in SAME or (name == "expand" and out.numel() == x.numel())
        if tag.kind is Kind.SPIKES and same and len(data) == 1:
            count = old.nonzero_count(x)
            if count is not None:
                held = old.spatial
                fits = (name in VIEWS and held is not None
                        and tuple(out.shape[-len(held[0]):]) == held[0])
                view = out.data_ptr() == x.data_ptr()  # shares the counter of writes
                tag.keep(x if view else out, count, held if fits else None)

    def _mark(self, x: Tensor, tag: Tag | None, name: str, position: int) -> None:
        if tag is None:
            x.__dict__.pop("_spikeswap_tag", None)
            return
        if position and tag.kind in (Kind.IMAGE, Kind.WEIGHT):
            tag = Tag(**{**vars(tag), "key": hash((tag.key, position))})
        set_tag(x, tag)
        base = x._base if name not in SAME and name not in PART or name == "copy" else None
        if base is not None:  # written through a view: the whole is what all its parts are
            old = self._tag(base)
            same = old is None or old.kind in (Kind.WEIGHT, tag.kind)
            kind = tag.kind if same else (
                Kind.ANALOG if Kind.ANALOG in (old.kind, tag.kind) else Kind.UNSURE)
            sources = tag.sources | (old.sources if old else frozenset())
            if old is not None and old.kind is Kind.SPIKES and not old.sources:
                sources = frozenset()
            set_tag(base, Tag(kind, self._run, sources))

    def _fingerprint(self, name: str, args, kwargs) -> int:
        def of(value):
            if isinstance(value, Tensor):
                tag = self._tag(value)
                return tag.key if tag is not None else id(value)
            if isinstance(value, (tuple, list)):
                return tuple(of(v) for v in value)
            return repr(value)
        return hash((name, *map(of, args), *((k, of(v)) for k, v in kwargs.items())))

    # ---- what an operation costs ----------------------------------------------------------------

    def _count_other(self, func, name, args, out, inputs, share: int) -> None:
        if name in OTHER:
            if out.dtype == torch.bool or out.is_floating_point() or out.is_complex():
                kind, size = OTHER[name]
                self.ledger.other[kind] += size(args, out) // share
        elif not self._names[func][1] and out.is_floating_point() and inputs:
            self.ledger.uncounted[name] += 1

    def _contract(self, name: str, c: Contraction, share: int, once: bool) -> None:
        tags = [self._tag(side.argument) for side in (c.left, c.right)]
        weights = [t is not None and t.kind is Kind.WEIGHT for t in tags]
        if all(weights):
            return  # prepared once for all images, such as a bias table
        path = self._path[-1] if self._path else ""
        kind = c.kind if c.kind == "conv" or any(weights) else "product"
        image = not any(t is None or t.activated or t.kind not in (Kind.IMAGE, Kind.WEIGHT)
                        for t in tags)
        row = Row(path or name, kind, c.detail, c.macs // share, image=image, once=once,
                  outputs=c.outputs // share)
        for side, is_weight in zip((c.left, c.right), weights, strict=True):
            if is_weight:
                row.weights += _own_elements(side.tensor)
            else:
                row.inputs += side.tensor.numel() // share
        row.left = self._side(c.left, tags[0])
        row.right = self._side(c.right, tags[1])
        if row.left.candidate and row.right.candidate:
            row.pairs = pairs(c.left.tensor, c.right.tensor)
        if c.bias:
            self.ledger.other["bias"] += c.bias // share
        key = (path, name, *c.signature)
        if self._observing:
            self._pending.append((key, row, c, tags))
        else:
            self._enter(key, row, c, tags)

    def _side(self, operand: Operand, tag: Tag | None) -> Side:
        side = Side(connections=operand.connections, elements=operand.tensor.numel())
        side.candidate = self.spiking and (tag is None or tag.candidate)
        if not side.candidate:
            return side
        if tag is not None and tag.sources:
            side.sources = tag.sources
        else:
            side.alphabet = inspect(operand.tensor)
            if side.alphabet.analog:
                return side
        if tag is not None and isinstance(operand.reach, Tensor):
            self._by_place |= tag.sources
        side.events = operand.events(tag)
        side.nonzero = operand.nonzero(tag)
        return side

    def _enter(self, key, row: Row, c: Contraction, tags, running: bool = False) -> None:
        if self._twin and not row.image:
            self._twin.add(key, row, c, tags, self._observing, running)
        self.ledger.add_row(key, row)

    # ---- modules --------------------------------------------------------------------------------

    def _before(self, name: str, what: Role | None):
        def hook(module, args):
            self._path.append(name)
            if what is not None:
                self._pause()
        return hook

    def _after(self, name: str, what: Role | None):
        def hook(module, args, out):
            if self._path:
                self._path.pop()
            if what is None or not self._silent or not self._run:
                return
            if self._silent == 1 and isinstance(out, Tensor):  # our own work stays uncounted
                start = time.perf_counter()
                tag = self._tag(args[0]) if args and isinstance(args[0], Tensor) else None
                self._whole(name, what, module, tag, out)
                self.seconds += time.perf_counter() - start
            self._resume()
        return hook

    def _whole(self, name: str, what: Role, module, tag: Tag | None, out: Tensor) -> None:
        """Count a module as one thing, and mark what it gives."""
        size = out.numel()
        if what is Role.NEURON:
            self._neuron(name, module, tag, out)
            return
        if what is not Role.PRESENT:
            self.ledger.other[what.value] += size
        if tag is None:
            return
        new = Tag(tag.kind, self._run, tag.sources, hash((tag.key, id(module))), tag.copies,
                  tag.activated or what is Role.ACTIVATION, tag.steps)
        if what is Role.PRESENT:
            new.copies = tag.copies * module.clock.steps
        if what is Role.ACCUMULATE:
            new.kind = Kind.ANALOG
        set_tag(out, new)

    def _neuron(self, name: str, module, tag: Tag | None, out: Tensor) -> None:
        steps = steps_of(module, out) or (max(tag.steps, tag.copies) if tag else 0)
        new = Tag(Kind.SPIKES, self._run, frozenset((name,)), steps=steps)
        site = Site(updates=out.numel())
        proven = self._count_spikes(name, module, site, new, out)
        if not proven or name not in self.ledger.sites:
            site.alphabet = inspect(self._sample(name, out), unit_of(module, out))
        set_tag(out, new)
        self.ledger.add_site(name, site)
        self.ledger.other["neuron charge"] += site.updates
        self.ledger.other["neuron compare"] += site.updates
        self.ledger.other["neuron reset"] += site.spikes

    def _count_spikes(self, name: str, module, site: Site, tag: Tag, out: Tensor) -> bool:
        """Count what a neuron sent, by place if a convolution behind it asks for that.

        Returns whether the sums prove that it sent nothing but 0 and its unit.
        """
        places = tuple(out.shape[-2:]) if out.dim() >= 4 and name in self._by_place else None
        if isinstance(module, SpikingNeuron) and module.alphabet == [0, 1]:
            found = count_by_unit(out, module.unit, module.axis, places)
            if found is not None:
                site.spikes, by_place = found
                tag.keep(out, site.spikes, None if places is None else (places, by_place))
                return True
        reach = 1 if places is None else torch.ones(places, dtype=torch.int64)
        site.spikes = Operand(out, reach, 0).events(tag)
        return False

    def _sample(self, name: str, out: Tensor) -> Tensor:
        """Rows of a neuron's output to look at: many at first, then others in each call."""
        size = _FIRST_SAMPLE if name not in self.ledger.sites else _SAMPLE
        if out.numel() <= size:
            return out
        rows = max(1, size * out.shape[0] // out.numel())
        self._turn += 1
        first = self._turn * 7919 % (out.shape[0] - rows + 1)
        return out[first:first + rows]

    # ---- nodes of a converted network -----------------------------------------------------------

    def _node_done(self, node, module, args, kwargs, output, steps) -> None:
        """Give the operations since the last node its name."""
        if not self._pending:
            return
        start = time.perf_counter()
        self._pause()
        path = node.meta.get("module_path", "").split("@")[0]
        name = f"{path} ({node.name})" if path else node.name
        running = getattr(node.meta.get("domain"), "value", "") == "running"
        self._flush(str(node.target) if node.op == "call_module" else name, running)
        self._resume()
        self.seconds += time.perf_counter() - start

    def _flush(self, name: str, running: bool = False) -> None:
        pending, self._pending = self._pending, []
        for number, (key, row, c, tags) in enumerate(pending):
            row.name = name or row.name
            self._enter((name, number) if name else key, row, c, tags, running)


def _tensors(values) -> list[Tensor]:
    """All tensors among arguments, one list deep."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found.extend(v for v in value if isinstance(v, Tensor))
    return found


def _own_elements(x: Tensor) -> int:
    """Elements without those that an expansion repeats."""
    return math.prod(n for n, stride in zip(x.shape, x.stride(), strict=True) if stride)
