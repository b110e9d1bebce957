"""Count every operation of a forward pass while it runs, without changing it.

`OperationCounter` sees each tensor operation as PyTorch dispatches it (so functional code, leaf
modules and anybody's own network are covered alike), follows where tensors come from, and writes
what it sees into a `Ledger`. Nothing is assumed about a network beyond that.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode

from ..support.structure import inputs_of
from .aten import COMPARE, CONSTANT, FREE, IN_ORDER, OTHER, PART, ROUND, SAME
from .bookkeeper import Bookkeeper
from .contractions import CONTRACTIONS
from .ledger import Ledger
from .modules import Role, contraction_of, role
from .provenance import Kind, Tag, derive, get_tag, set_tag
from .timing import TAKES_TIME, copies_of, steps_after

# Analog values stay analog, and as many steps, under all operations but these.
_RETAGS = COMPARE | ROUND | CONSTANT | TAKES_TIME
# What moves data and costs nothing: of one analog tensor, the result is analog and that is all.
_MOVES = (SAME | PART) - _RETAGS - {*CONTRACTIONS, *OTHER, "copy"}
_KNOWN = frozenset({*CONTRACTIONS, *OTHER, *FREE})


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
            an ANN), "rates" (neurons that fired within the run), or None.

    Attributes:
        seconds: time spent counting so far.
    """

    def __init__(self, model, spiking: bool, twin: str | None = None):
        super().__init__()
        self.model, self.spiking = model, spiking
        self.seconds = 0.0
        self._book = Bookkeeper(spiking, twin)
        self._run = 0
        self._silent = 0
        self._entered = False
        self._path: list[tuple[str, bool]] = []
        self._names: dict = {}
        self._weights: dict[int, int] = {}

    @property
    def ledger(self) -> Ledger:
        """What was counted so far."""
        return self._book.ledger

    # ---- the frame: hooks, one forward pass, its end ------------------------------------------

    @contextlib.contextmanager
    def attached(self) -> Iterator["OperationCounter"]:
        """Hooks on every module while the context lasts; they are gone afterwards."""
        handles = []
        try:
            if isinstance(self.model, nn.Module):
                for number, tensor in enumerate((*self.model.parameters(), *self.model.buffers())):
                    self._weights[id(tensor)] = number + 1
            for name, module in self._watched():
                what = role(module)
                handles.append(module.register_forward_pre_hook(self._before(name, what)))
                handles.append(module.register_forward_hook(self._after(what), with_kwargs=True))
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def _watched(self) -> Iterator[tuple[str | None, nn.Module]]:
        """Modules that get hooks, and what rows call them (None: as the module around them)."""
        return self.model.named_modules() if isinstance(self.model, nn.Module) else iter(())

    @contextlib.contextmanager
    def forward(self, images, steps: int | None = None) -> Iterator:
        """Count what runs inside. Gives the images to pass on (aliases that are marked as such).

        Args:
            images: [B, C, H, W], or event frames [B, T, C, H, W]; of several inputs a tuple.
            steps: time steps of the run, if known before.
        """
        alias = self._begin(images, steps)
        self._resume()
        try:
            yield alias
        finally:
            self._pause()

    def _begin(self, images, steps: int | None):
        inputs = inputs_of(images)
        self._run += 1
        self._silent, self._path = 0, []
        self._seen: set[int] = set()
        self._steps, self._image_dims = steps, inputs[0].dim()
        aliases = tuple(x.detach() for x in inputs)
        for number, alias in enumerate(aliases, 1):
            tag = Tag(Kind.IMAGE, self._run, key=number)
            if alias.dim() == 5:
                tag = Tag(Kind.EVENTS, self._run, steps=alias.shape[1])
            set_tag(alias, tag)
        self._book.begin(self._run)
        return aliases[0] if isinstance(images, Tensor) else aliases

    def close(self, images: int, steps: int | None) -> None:
        """End of a forward pass of so many images and time steps (None: an ANN)."""
        start = time.perf_counter()
        self._book.close(images, steps)
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

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Asked by PyTorch: no wrapper around each call (it costs as much as the counting)."""
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self._silent:
            return func(*args, **kwargs)
        name, known, moves = self._names.get(func) or self._lookup(func)
        if not known:
            with self:  # a composite operation, met whole in inference mode: count its parts
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        out = func(*args, **kwargs)
        start = time.perf_counter()
        if not (moves and self._moved(args, kwargs, out)):
            self._record(func, name, args, kwargs, out)
        self.seconds += time.perf_counter() - start
        return out

    def _moved(self, args, kwargs, out) -> bool:
        """The short way for what moves analog values; False if it is something else."""
        if kwargs or not isinstance(out, Tensor) or not isinstance(args[0], Tensor):
            return False
        tag = get_tag(args[0], self._run)
        if tag is None:
            return False
        if tag.kind is not Kind.ANALOG and (
            self.spiking or tag.kind is not Kind.IMAGE or tensors_among(args[1:])
        ):
            return False  # in an ANN nothing is told by values, nor repeated over time
        set_tag(out, tag)
        return True

    def _lookup(self, func) -> tuple[str, bool, bool]:
        space, _, name = func._schema.name.partition("::")
        if name.endswith("_") and not name.endswith("__"):
            name = name[:-1]
        name = name if space == "aten" else f"{space}::{name}"
        self._names[func] = name, name in _KNOWN, name in _MOVES
        return self._names[func]

    def _tag(self, x: Tensor) -> Tag | None:
        number = self._weights.get(id(x))
        if number is not None:
            return Tag(Kind.WEIGHT, self._run, key=number)
        return get_tag(x, self._run)

    def _record(self, func, name, args, kwargs, out) -> None:
        given = tensors_among((*args, *kwargs.values()) if kwargs else args)
        inputs = [(x, self._tag(x)) for x in given]
        outs = tensors_among(out if isinstance(out, (tuple, list)) else (out,))
        if not outs:
            return
        tag = (
            None
            if name in _RETAGS
            else next((t for _, t in inputs if t is not None and t.kind is Kind.ANALOG), None)
        )
        if tag is None:
            tag = self._new_tag(name, args, kwargs, inputs, outs[0])
        constant = tag is not None and tag.kind is Kind.IMAGE and self.spiking
        if not (constant and tag.key in self._seen):
            share = tag.copies if constant else 1
            path = self._path[-1][0] if self._path else ""
            if name in CONTRACTIONS:
                for c in CONTRACTIONS[name](args, kwargs, outs[0]):
                    tags = [self._tag(side.argument) for side in (c.left, c.right)]
                    self._book.contract(name, path, c, tags, share, constant)
            elif name in OTHER and (tag is None or tag.kind is not Kind.WEIGHT):
                in_linear = name == "add" and bool(self._path) and self._path[-1][1]
                kind = "bias" if in_linear else None
                self._book.other(name, path, args, outs[0], share, kind)
            elif not self._names[func][1] and inputs and _holds_numbers(outs[0]):
                self._book.unknown(name)
            if constant:
                self._seen.add(tag.key)
        for position, x in enumerate(outs):
            self._mark(x, tag, name, position)

    def _new_tag(self, name, args, kwargs, inputs, out: Tensor) -> Tag | None:
        tag = derive(name, inputs, self._run)
        if tag is None or not self.spiking:
            return tag
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
                fits = (
                    name in IN_ORDER
                    and held is not None
                    and tuple(out.shape[-len(held[0]) :]) == held[0]
                )
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
            kind = (
                tag.kind
                if same
                else (Kind.ANALOG if Kind.ANALOG in (old.kind, tag.kind) else Kind.UNSURE)
            )
            sources = tag.sources | (old.sources if old else frozenset())
            if old is not None and old.kind is Kind.SPIKES and not old.sources:
                sources = frozenset()
            whole = dataclasses.replace(tag, kind=kind, sources=sources, nonzero=None)
            if old is not None:
                whole.key = hash((tag.key, old.key))
                whole.activated = tag.activated or old.activated
            set_tag(base, whole)

    def _fingerprint(self, name: str, args, kwargs) -> int:
        def of(value):
            if isinstance(value, Tensor):
                tag = self._tag(value)
                return tag.key if tag is not None else id(value)
            if isinstance(value, (tuple, list)):
                return tuple(of(v) for v in value)
            return repr(value)

        return hash((name, *map(of, args), *((k, of(v)) for k, v in kwargs.items())))

    # ---- modules --------------------------------------------------------------------------------

    def _before(self, name: str | None, what: Role | None):
        def hook(module, args):
            outer = self._path[-1][0] if self._path else ""
            self._path.append((outer if name is None else name, isinstance(module, nn.Linear)))
            if what is not None:
                self._pause()

        return hook

    def _after(self, what: Role | None):
        def hook(module, args, kwargs, out):
            name = self._path.pop()[0] if self._path else ""
            if what is None or not self._silent or not self._run:
                return
            given = tensors_among((*args, *kwargs.values()))
            if self._silent == 1 and given and isinstance(out, Tensor):
                start = time.perf_counter()  # still paused: our own work stays uncounted
                self._whole(name, what, module, given[0], out)
                self.seconds += time.perf_counter() - start
            self._resume()

        return hook

    def _whole(self, name: str, what: Role, module, x: Tensor, out: Tensor) -> None:
        """Count a module as one thing, and mark what it gives."""
        tag = self._tag(x)
        if what is Role.NEURON:
            set_tag(out, self._book.neuron(name, module, tag, out))
            return
        key = hash((tag.key if tag else id(x), id(module)))
        constant = self.spiking and tag is not None and tag.kind is Kind.IMAGE
        share = tag.copies if constant else 1
        if not (constant and key in self._seen):
            if what is Role.WEIGHTS:
                c = contraction_of(module, x, out)
                weight = Tag(Kind.WEIGHT, self._run)
                self._book.contract(c.kind, name, c, [tag, weight], share, constant)
            else:
                self._book.count(name, what.value, out.numel() // share)
        if constant:
            self._seen.add(key)
        new = self._tag_after(what, tag, key)
        if new is not None:
            set_tag(out, new)

    def _tag_after(self, what: Role, tag: Tag | None, key: int) -> Tag | None:
        """The tag of what a module gives that is no neuron."""
        if tag is None:
            return Tag(Kind.ANALOG, self._run) if what is Role.WEIGHTS else None
        new = Tag(tag.kind, self._run, tag.sources, key, tag.copies, tag.activated, tag.steps)
        if what is Role.ACTIVATION:
            new.activated = True
        elif what is Role.WEIGHTS and tag.kind is not Kind.IMAGE:
            new.kind, new.sources = Kind.ANALOG, frozenset()
        elif what is Role.AFFINE and tag.kind not in (Kind.IMAGE, Kind.ANALOG):
            new.kind, new.sources = Kind.UNSURE, frozenset()
        return new


def _holds_numbers(x: Tensor) -> bool:
    return x.is_floating_point() or x.is_complex()


def tensors_among(values) -> list[Tensor]:
    """All tensors among arguments, one list deep."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif value.__class__ in (list, tuple):
            found += [v for v in value if isinstance(v, Tensor)]
    return found
