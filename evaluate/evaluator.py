"""`evaluate`: accuracy at every time step, operations, energy and independence of one model."""

import contextlib
import dataclasses
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from ..counting import Ledger, NodeCounter, OperationCounter, Totals, settle
from ..snn.ideal import ideal_neurons
from ..support.whole_numbers import whole_number
from .accuracy import Accuracy
from .calling import Caller, device_of, prepared
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

    accuracy: Accuracy
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
) -> dict:
    """Evaluate an ANN, a converted network or anybody's spiking network.

    Args:
        model: called as model(images) if it is an ANN -> [B, classes]; otherwise as
            model(images, timesteps=T) -> [T, B, classes], its readout after each step. Its
            SpikingJelly neurons are reset before each batch.
        loader: batches (images, labels); images keep their type.
        timesteps: T, or several, of which the largest is run; None for the model's own.
        energy: name of an energy model, or one of your own.
        ann: the network that `model` was converted from, for the agreement.
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
    caller = Caller(model, steps, None if chunk is None else whole_number("chunk", chunk))
    first_index = getattr(loader, "first_index", 0) if first_index is None else first_index
    place = torch.device(device) if device is not None else device_of(model)
    with prepared(model, ann, device=device):
        batches = _batches(loader, limit, place)
        result = _pass(
            caller,
            batches,
            ann,
            first_index,
            count,
            check_independence,
            early_exit,
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
    early_exit: float | None,
    bar,
) -> _Run:
    """The loop over the images."""
    result = _Run(Accuracy(early_exit), agreed=ann is not None)
    with contextlib.ExitStack() as stack:
        stack.enter_context(bar)
        for images, labels in batches:
            first = first_index + result.accuracy.images
            if result.accuracy.images == 0:
                _first_batch(result, caller, images, first, count, check, stack)
            answer = ann(images).argmax(-1) if ann is not None else None
            if result.twin is not None:
                with ideal_neurons(caller.model, quantised=True, masks="expectation"):
                    _counted(result.twin, Caller(caller.model, 1), images, first)
            start = _now(images)
            before = result.counter.seconds if result.counter else 0.0
            readout = _counted(result.counter, caller, images, first)
            counted = result.counter.seconds - before if result.counter else 0.0
            result.seconds += _now(images) - start - counted
            result.accuracy.add(readout, labels, answer)
            if result.random is not None:
                result.random.add(images, labels, first)
            bar.update(len(images))
    return result


def _first_batch(
    result: _Run, caller: Caller, images: Tensor, first: int, count: bool, check: bool, stack
) -> None:
    """What needs images before the loop can begin: the kind of the model, its independence."""
    if caller.kind == "ann":
        caller(images[:1], first)  # tells an ANN from a spiking network with its own T
    if caller.kind == "ann":
        result.random = random_masks(caller.model)
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


def _counted(
    counter: OperationCounter | None, caller: Caller, images: Tensor, first: int
) -> Tensor:
    """One call of a model, counted if there is a counter."""
    if counter is None:
        return caller(images, first)
    known = images.shape[1] if images.dim() == 5 else caller.timesteps
    out = caller(images, first, lambda x: counter.forward(x, known))
    counter.close(len(images), out.shape[0] if out.dim() == 3 else None)
    return out


def _record(
    result: _Run, caller: Caller, model, ann, energy: EnergyModel, name, run, checked: bool
) -> dict:
    """The dictionary, from the sums over all processes."""
    accuracy = result.accuracy
    accuracy.reduce()
    if accuracy.images == 0:
        raise ValueError("the loader gives no images; check the data folder, the split and --limit")
    ledger = merged(result.counter.ledger if result.counter else Ledger())
    twin_ledger = merged(result.twin.ledger if result.twin else Ledger())
    kinds = [kind for kind in gather(caller.kind if result.accuracy.labels else None) if kind]
    kind = "direct" if "direct" in kinds else kinds[0] if kinds else caller.kind
    totals = settle(ledger, kind != "ann") if ledger.images else None
    twin = settle(twin_ledger, False) if twin_ledger.images else totals
    steps = accuracy.steps if kind != "ann" else None
    record = describe(model, kind, steps, totals)
    record.name = name or getattr(model, "model_name", None) or type(model).__name__
    record.kind = kind
    record.put("run", run, "not evaluated from a run folder")
    _put_accuracy(record, accuracy, kind, result.agreed)
    record.top1_random_masks = _top1_random(result)
    record.masked_share = masked_share(model, totals)
    put_costs(record, totals, twin, energy, kind)
    _put_speed(record, result, accuracy.images, model)
    found = [text for text in gather(result.independent) if text is not None]
    texts = [text for text in found if text is not True]
    record.put(
        "batch_independent",
        texts[0] if texts else True if found else None,
        "the check was switched off",
    )
    record.notes = _notes(accuracy, totals, texts)
    record.uncounted += _uncounted_operations(totals)
    return record.as_dict()


def _put_accuracy(record: Record, accuracy: Accuracy, kind: str, agreed: bool) -> None:
    top1, top5 = accuracy.percent(accuracy.right1), accuracy.percent(accuracy.right5)
    record.images, record.classes = accuracy.images, accuracy.classes
    record.top1, record.top5 = top1[-1], top5[-1]
    spiking = kind != "ann"
    record.put("top1_by_timestep", top1 if spiking else None, "an ANN has no time steps")
    record.put("top5_by_timestep", top5 if spiking else None, "an ANN has no time steps")
    agreement = accuracy.percent(accuracy.agree)[-1] if agreed else None
    reason = "no ANN was given to compare with" if spiking else "this is the ANN"
    record.put("agreement_with_ann", agreement, reason)
    if accuracy.confidence is not None:
        record.early_exit = {
            "confidence": accuracy.confidence,
            "average_timesteps": accuracy.exit_steps / accuracy.images,
            "top1": 100.0 * accuracy.exit_right / accuracy.images,
        }


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


def _notes(accuracy: Accuracy, totals: Totals | None, leaks: list[str]) -> list[str]:
    """Remarks that a reader of the numbers needs."""
    notes = []
    if len(accuracy.labels) == 1 and accuracy.images > 1:
        only = next(iter(accuracy.labels))
        notes.append(
            f"all {accuracy.images} images bear one label ({only}): this accuracy says "
            "nothing about telling classes apart; evaluate images of several classes"
        )
    if leaks:
        notes.append("answers depend on the batch, so top1 is not a property of the model alone")
    for site, found in (totals.sites if totals else {}).items():
        if found.alphabet.analog:
            notes.append(f"neuron {site} sends analog values, so layers behind it count as MACs")
    for note in notes:
        logger.warning(note)
    if accuracy.classes <= 5:
        notes.append(f"top5 is trivial: the model tells {accuracy.classes} classes apart")
    return notes


def _uncounted_operations(totals: Totals | None) -> list[str]:
    found = totals.uncounted if totals else {}
    return [
        f"operation {name}: no handle counts it (called {calls} times)"
        for name, calls in sorted(found.items())
    ]


def _batches(loader, limit: int | None, device) -> Iterator[tuple[Tensor, Tensor]]:
    left = math.inf if limit is None else limit
    for batch in loader:
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            raise ValueError(
                f"the loader gives {type(batch).__name__}; evaluate needs batches (images, labels)"
            )
        images, labels = batch[0], torch.as_tensor(batch[1])
        if len(images) != len(labels):
            raise ValueError(f"a batch has {len(images)} images and {len(labels)} labels")
        if len(images) == 0:
            continue
        if left < len(images):
            images, labels = images[:left], labels[:left]
        yield images.to(device), labels
        left -= len(images)
        if left <= 0:
            return


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


def _now(images: Tensor) -> float:
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.perf_counter()
