"""`evaluate`: accuracy at every time step, operations, energy and independence of one model."""

import contextlib
import dataclasses
import logging
import sys
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from ..counting import Ledger, NodeCounter, OperationCounter, Totals, settle
from ..graph.inputs import as_batch, input_names
from ..snn.ideal import ideal_neurons
from ..support.choices import TASKS
from ..support.precision import without_tf32
from ..support.structure import inputs_of
from ..support.whole_numbers import whole_number
from .accuracy import Accuracy
from .batches import labelled_batches
from .calling import Caller, device_of, prepared
from .comparison import Comparison
from .costs import put_costs
from .describe import describe
from .energy import EnergyModel, energy_model
from .gather import gather, merged
from .independence import check_independence as find_dependence
from .random_masks import RandomMasks, masked_share, random_masks
from .records import Record

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class _Run:
    """One pass over the loader."""

    score: Accuracy | Comparison
    counter: OperationCounter | None = None
    twin: NodeCounter | None = None
    random: RandomMasks | None = None
    seconds: float = 0.0
    independent: bool | str | None = None
    agreed: bool = False


def evaluate(
    model,
    loader,
    timesteps: int | Sequence[int] | None = None,
    energy: str | EnergyModel = "45nm-fp32",
    ann=None,
    name: str | None = None,
    run: str | None = None,
    chunk: int | None = None,
    limit: int | None = None,
    first_index: int | None = None,
    count: bool = True,
    check_independence: bool = True,
    early_exit: float | None = None,
    progress: bool = False,
    device=None,
    task: str = "classify",
    output: str | None = None,
) -> dict:
    """Evaluate an ANN, a converted network or anybody's spiking network.

    Args:
        model: called as model(images) if it is an ANN -> [B, classes]; otherwise as
            model(images, timesteps=T) -> [T, B, classes], its readout after each step. Its
            SpikingJelly neurons are reset before each batch. It may give a tuple, list, dictionary or
            dataclass of such tensors.
        loader: batches (images, labels); images keep their type. Of a model of several inputs
            (a, b, labels), ((a, b), labels) or dictionaries with the names of the inputs.
        timesteps: T, or several, of which the largest is run; None for the model's own.
        energy: name of an energy model, or one of your own.
        ann: the network that `model` was converted from, for the agreement and the error.
        name, run: what the record calls the model (default: its class) and where it comes from.
        chunk: steps that a converted network runs as one batch.
        limit: at most so many images (of this process).
        first_index: number of the first image in the data set, to which its masks belong (default:
            the loader's own `first_index`, else 0).
        count: count operations.
        check_independence: see whether an image's answer depends on its company.
        early_exit: confidence at which an image stops, for the average T.
        progress: show a progress bar, if the output is a terminal.
        device: where to compute (default: where the model is).
        task: "classify": accuracy of logits [B, classes], with labels. The others need no labels:
            "dense": relative error of all outputs against `ann`, and the share of places (pixels)
            with the same largest class (axis 1 of [B, C, H, W], the last of [B, N, C] and [B, C]);
            "regression": relative and root mean square error against `ann`; "counts": operations and
            energy alone.
        output: name of the one tensor to judge, where the model gives several ("logits", "[0]",
            "boxes[1]"); default: all, of a classifier the one called "logits".

    Returns:
        One model's dictionary as in `eval.json`. Under torchrun every process gets the same one,
        with the exact sums over all processes.

    Raises:
        ValueError: no images, impossible labels, NaN logits, one class only, a model that does
            not return [T, B, classes], impossible arguments.
    """
    energy = energy_model(energy)
    steps = _largest(timesteps)
    limit = None if limit is None else whole_number("limit", limit)
    if early_exit is not None and not 0 < early_exit <= 1:
        raise ValueError(f"early_exit {early_exit} must lie in (0, 1]: a confidence, e.g. 0.95")
    score = TASKS[TASKS.check(task)](early_exit)
    chunk = None if chunk is None else whole_number("chunk", chunk)
    caller = Caller(model, steps, chunk, task, output)
    first_index = getattr(loader, "first_index", 0) if first_index is None else first_index
    place = torch.device(device) if device is not None else device_of(model)
    with without_tf32(), prepared(model, ann, device=device):
        classify = task == "classify"
        batches = labelled_batches(loader, limit, place, input_names(model), classify)
        result = _pass(
            caller,
            batches,
            ann,
            first_index,
            count,
            check_independence,
            score,
            _bar(loader, limit, progress, name),
        )
    return _record(result, caller, model, ann, energy, name, run, check_independence)


def _pass(
    caller: Caller,
    batches: Iterator,
    ann,
    first_index: int,
    count: bool,
    check: bool,
    score: Accuracy | Comparison,
    bar,
) -> _Run:
    """The loop over the images."""
    result = _Run(score, agreed=ann is not None)
    with contextlib.ExitStack() as stack:
        stack.enter_context(bar)
        for images, labels in batches:
            first = first_index + score.images
            if score.images == 0:
                _first_batch(result, caller, images, first, count, check, stack)
            expected = caller.chosen(ann(*inputs_of(images))) if ann is not None else None
            if result.twin is not None:
                once = Caller(caller.model, 1, None, caller.task, caller.output)
                with ideal_neurons(caller.model, quantised=True, masks="expectation"):
                    _counted(result.twin, once, images, first)
            start = _now(images)
            before = result.counter.seconds if result.counter else 0.0
            outputs = _counted(result.counter, caller, images, first)
            counted = result.counter.seconds - before if result.counter else 0.0
            result.seconds += _now(images) - start - counted
            if caller.kind == "ann":
                outputs = [x.unsqueeze(0) for x in outputs]
            score.add(outputs, labels, expected)
            if result.random is not None:
                result.random.add(images, labels, first)
            bar.update(len(inputs_of(images)[0]))
    return result


def _first_batch(
    result: _Run, caller: Caller, images, first: int, count: bool, check: bool, stack
) -> None:
    """What needs images before the loop can begin: the kind of the model, its independence."""
    if caller.kind == "ann":
        caller(
            as_batch(x[:1] for x in inputs_of(images)), first
        )  # tells an ANN from a spiking network with its own T
    if caller.kind == "ann":
        result.random = random_masks(caller)
    if check:
        masked = caller.converted and caller.model.info.mask > 0
        result.independent = find_dependence(caller, images, first, masked)
    if not count:
        return
    if caller.kind == "converted":
        result.counter, result.twin = (NodeCounter(caller.model, twin) for twin in (False, True))
        stack.enter_context(result.twin.attached())
    else:
        direct = caller.kind == "direct"
        result.counter = OperationCounter(caller.model, direct, "rates" if direct else None)
    stack.enter_context(result.counter.attached())


def _counted(counter: OperationCounter | None, caller: Caller, images, first: int) -> list[Tensor]:
    """One call of a model, counted if there is a counter."""
    if counter is None:
        return caller(images, first)
    one = inputs_of(images)[0]
    known = one.shape[1] if one.dim() == 5 else caller.timesteps
    outputs = caller(images, first, lambda x: counter.forward(x, known))
    counter.close(len(one), None if caller.kind == "ann" else outputs[0].shape[0])
    return outputs


def _record(
    result: _Run, caller: Caller, model, ann, energy: EnergyModel, name, run, checked: bool
) -> dict:
    """The dictionary, from the sums over all processes."""
    score, seen = result.score, result.score.images
    score.reduce()
    if score.images == 0:
        raise ValueError("the loader gives no images; check the data folder, the split and --limit")
    ledger = merged(result.counter.ledger if result.counter else Ledger())
    twin_ledger = merged(result.twin.ledger if result.twin else Ledger())
    kinds = [kind for kind in gather(caller.kind if seen else None) if kind]
    kind = "direct" if "direct" in kinds else kinds[0] if kinds else caller.kind
    totals = settle(ledger, kind != "ann") if ledger.images else None
    twin = settle(twin_ledger, False) if twin_ledger.images else totals
    steps = score.steps if kind != "ann" else None
    record = describe(model, kind, steps, totals)
    record.name = name or getattr(model, "model_name", None) or type(model).__name__
    record.kind, record.task = kind, caller.task
    record.put("run", run, "not evaluated from a run folder")
    score.put(record, kind, result.agreed)
    record.top1_random_masks = _top1_random(result)
    record.masked_share = masked_share(model, totals)
    put_costs(record, totals, twin, energy, kind)
    _put_speed(record, result, score.images, model)
    found = [text for text in gather(result.independent) if text is not None]
    texts = [text for text in found if text is not True]
    record.put(
        "batch_independent",
        texts[0] if texts else True if found else None,
        "the check was switched off",
    )
    record.notes = _notes(score, totals, texts)
    record.uncounted += _uncounted_operations(totals)
    return record.as_dict()


def _top1_random(result: _Run) -> float | None:
    """Top-1 under random masks, over all processes; None without masks."""
    if not any(gather(result.random is not None)):
        return None
    accuracy = result.random.accuracy if result.random is not None else Accuracy()
    accuracy.reduce()
    return accuracy.percent(accuracy.right1)[-1]


def _put_speed(record: Record, result: _Run, images: int, model) -> None:
    seconds = max(gather(result.seconds))
    record.put(
        "images_per_second", images / seconds if seconds > 0 else None, "the clock did not advance"
    )
    if device_of(model).type == "cuda":
        record.peak_memory_bytes = max(gather(torch.cuda.max_memory_allocated()))
    else:
        record.peak_memory_bytes = max(gather(_peak_resident_bytes())) or None


def _peak_resident_bytes() -> int:
    """Largest memory of this process so far; 0 where the system does not tell."""
    try:
        import resource  # noqa: PLC0415  (there is none on Windows)
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _notes(score, totals: Totals | None, leaks: list[str]) -> list[str]:
    """Remarks that a reader of the numbers needs."""
    notes = score.notes()
    if leaks:
        notes.append("answers depend on the batch, so top1 is not a property of the model alone")
    for site, found in (totals.sites if totals else {}).items():
        if found.alphabet.analog:
            notes.append(f"neuron {site} sends analog values, so layers behind it count as MACs")
    for note in notes:
        logger.warning(note)
    classes = getattr(score, "classes", None)
    if isinstance(score, Accuracy) and classes <= 5:
        notes.append(f"top5 is trivial: the model tells {classes} classes apart")
    return notes


def _uncounted_operations(totals: Totals | None) -> list[str]:
    found = totals.uncounted if totals else {}
    return [
        f"operation {name}: no handle counts it (called {calls} times)"
        for name, calls in sorted(found.items())
    ]


def _largest(timesteps) -> int | None:
    if timesteps is None:
        return None
    values = list(timesteps) if isinstance(timesteps, Sequence) else [timesteps]
    if not values:
        raise ValueError("timesteps is empty; give a whole number of at least 1")
    return max(whole_number("timesteps", value) for value in values)


def _bar(loader, limit: int | None, progress: bool, name):
    total = getattr(loader, "num_images", None)
    total = total if limit is None else min(limit, total or limit)
    return tqdm(
        total=total,
        desc=name or "evaluate",
        unit="image",
        leave=False,
        disable=None if progress else True,
    )


def _now(images) -> float:
    one = inputs_of(images)[0]
    if one.is_cuda:
        torch.cuda.synchronize(one.device)
    return time.perf_counter()
