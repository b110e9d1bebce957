"""`export`: a converted network as a NIR file for one target, with a grade that was measured there."""

import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..snn import SpikingNetwork
from ..support.atomic import new_folder, write_file
from ..support.precision import full_precision
from ..support.versions import versions
from ..support.whole_numbers import whole_number
from .fidelity import (
    APPROXIMATE,
    FAITHFUL,
    NOT_CHECKED,
    READERS,
    UNSUPPORTED,
    Comparison,
    Fidelity,
    MissingPackageError,
    OtherSide,
)
from .fit import fits
from .integers import to_integers
from .layers import Exportable
from .lowering import UnexportableError, lower
from .nir_file import as_written, write, write_golden
from .passes import linear_to_convolutions, write_out_groups
from .simulation import simulate
from .targets import TARGETS, Target

NETWORK, GOLDEN, READER, RECORD = "network.nir", "golden.h5", "load.py", "export.json"
BITS, STARTS = (32, 16, 8), ("state", "bias")
GOLDEN_IMAGES = 4
CALIBRATION = 64  # images that decide how weights are rounded
DEFAULT_IMAGES = 50  # that a target's own import is tried on


@full_precision
def export(
    snn: SpikingNetwork,
    folder,
    target: str = "nir",
    bits: int = 32,
    example: Tensor | None = None,
    *,
    labels: Tensor | None = None,
    timesteps: int | None = None,
    start: str = "state",
    check: bool = True,
    python: str | None = None,
    progress=None,
) -> dict[str, Any]:
    """Write a network for a target, read it back there, run it on images, and grade it.

    Args:
        snn: a conversion with `if` neurons, without masks.
        folder: is made; must not exist. Gets network.nir, load.py (how to read it and keep its
            meaning), golden.h5 and golden.py (images, spikes and outputs, and how to compare with
            them) and export.json.
        target: one of `targets.TARGETS`.
        bits: 32 (float), 16 or 8 (integers on one scale with the threshold, layer by layer).
        example: images [N, C, H, W]; their size is the file's, and both sides run all of them.
        labels: [N], for the accuracy on them.
        timesteps: T of the comparison and of a bias (default: the conversion's).
        start: "state": neurons start at half their threshold, which `v_init` in the file says;
            "bias": they start at 0 and a bias brings the half in T steps, for readers that hold no
            start.
        check: read the file back at the other side; otherwise the grade is "not checked".
        python: interpreter that has the target's packages (default: this one).
        progress: wraps the list of batches (a progress bar).

    Returns:
        What export.json holds.

    Raises:
        UnexportableError: operations without a form, all at once; nothing is written.
        ValueError: an impossible argument.
    """
    folder = Path(folder)
    row: Target = TARGETS[TARGETS.check(target)]
    steps = _checked(snn, folder, bits, example, timesteps, start)
    if importlib.util.find_spec("nir") is None:
        raise ValueError("the package 'nir' is not installed; install it: pip install 'nir>=1.0.7'")
    network = lower(snn, example, row.averages, steps if start == "bias" else None)
    if bits < 32:
        to_integers(network, example[:CALIBRATION], steps, bits)
    write_out_groups(network)  # nir itself takes a grouped convolution for one of fewer channels
    if not row.flattens:
        linear_to_convolutions(network)
    as_written(network)
    with new_folder(folder) as inside:
        write(network, row, steps, inside / NETWORK)
        shutil.copyfile(READERS / f"{row.reader}.py", inside / READER)
        shutil.copyfile(READERS / "golden.py", inside / "golden.py")
        _golden(inside, network, example[:GOLDEN_IMAGES], steps)
        record = _record(network, row, bits, start, steps)
        record |= {"grade": NOT_CHECKED, "why": "no check was asked for", **_NOTHING}
        if check:
            comparison = Comparison(snn, network, steps)
            record |= _graded(comparison, row, inside, example, labels, start, python, progress)
        write_file(inside / RECORD, json.dumps(record, indent=1))
    return record


def _checked(snn, folder: Path, bits, example, timesteps, start) -> int:
    """T, or a ValueError for arguments that make no file."""
    if folder.exists():
        raise ValueError(f"{folder} exists; name another folder (--output), or remove it")
    if bits not in BITS:
        raise ValueError(f"bits {bits!r} is not offered; choose {', '.join(map(str, BITS))}")
    if start not in STARTS:
        raise ValueError(f"start {start!r} is unknown; choose {' or '.join(STARTS)}")
    if not isinstance(example, Tensor) or example.dim() < 2 or len(example) == 0:
        raise ValueError("example is missing: give images [N, C, H, W], which decide the size")
    shape = snn.network.meta.get("image_shape")
    if shape is not None and snn.network.meta.get("fixed_image_size"):
        if tuple(example.shape[1:]) != tuple(shape[-3:]):
            raise ValueError(
                f"the example has images of size {tuple(example.shape[1:])}, the network is made "
                f"for {tuple(shape[-3:])}"
            )
    steps = snn.info.timesteps if timesteps is None else timesteps
    if steps is None:
        raise ValueError("the conversion names no T; give timesteps=32 (--T 32)")
    return whole_number("timesteps", steps)


def _golden(folder: Path, network: Exportable, images: Tensor, steps: int) -> None:
    """What the file's network gives in float32 on some images, to compare with elsewhere."""
    outputs, spikes = simulate(network, images.float(), steps)
    write_golden(folder / GOLDEN, images, spikes, outputs.flatten(2), network)


def _record(network: Exportable, target: Target, bits: int, start: str, steps: int) -> dict:
    return {
        "schema": 1,
        "versions": versions(),
        "target": target.name,
        "tried_with": target.words,
        "bits": bits,
        "start": start,
        "timesteps": steps,
        "weights": sum(layer.weight.numel() for layer in network.weighted),
        "neurons": sum(int(torch.tensor(layer.shape).prod()) for layer in network.neurons),
        "output_scale": network.layers["output"].scale,
        "thresholds": {layer.name: layer.threshold for layer in network.neurons},
        "sites": {layer.name: layer.site for layer in network.neurons},
        "groups_written_out": network.grown,
        "fit": [dataclasses.asdict(one) for one in fits(network)],
    }


def _graded(comparison: Comparison, target, folder, images, labels, start, python, progress):
    """What was found at the other side, in the columns of export.json."""
    try:
        with OtherSide(target, folder / NETWORK, python, images.device) as other:
            found = comparison.run(other, images, labels, progress=progress)
            default = _default(comparison, other, images[:DEFAULT_IMAGES])
    except MissingPackageError as error:
        how = " and ".join(dict.fromkeys(target.packages.values()))
        return {"grade": NOT_CHECKED, "why": f"{error}; {how}", **_NOTHING}
    except RuntimeError as error:
        return {"grade": UNSUPPORTED, "why": str(error), **_NOTHING, "nodes": ["all"]}
    network = comparison.network
    same = not found.rule.breaches and not found.several
    exact = same and network.bits == 32 and start == "state"
    nodes = [layer.name for layer in network.neurons] if target.refuses and not same else []
    grade = UNSUPPORTED if nodes else FAITHFUL if exact else APPROXIMATE
    return {
        "grade": grade,
        "why": _why(found, grade, network, start, target),
        "agreement": found.agreement,
        "readout_error": found.readout_error,
        **_columns(found),
        "default_import": default,
        "nodes": nodes,
    }


_NOTHING = {"agreement": None, "readout_error": None, "default_import": None, "nodes": []}


def _columns(found: Fidelity) -> dict:
    rule = dataclasses.asdict(found.rule)
    rule["decisions"] = rule.pop("spikes")
    return {
        "images": found.images,
        "spikes": found.spikes,
        "same_images": found.same_images,
        "same_readout_error": found.same_readout_error,
        "top1": found.top1,
        "top1_snn": found.top1_snn,
        "differing_spikes": found.differing,
        "steps_with_several_spikes": found.several,
        "rule": rule,
    }


def _why(found: Fidelity, grade: str, network: Exportable, start: str, target: Target) -> str:
    rule, different = found.rule, sum(found.differing.values())
    if grade == UNSUPPORTED:
        return target.refuses
    if rule.breaches or found.several:
        return (
            f"{rule.breaches} of {rule.spikes} spikes do not follow the neurons' rule, "
            f"{found.several} times several were sent in one step"
        )
    if network.bits < 32:
        return f"the target does what the file says; the file rounds weights to {network.bits} bits"
    if start == "bias":
        return "the target does what the file says; a bias takes the place of the start"
    if not different:
        return "every spike is the spiking network's"
    return (
        f"every spike follows the neurons' rule; of {found.images} images {found.same_images} have the "
        f"spiking network's own spikes, the others {different} that differ after ties, where rounding "
        "decides whether a potential reaches the threshold"
    )


def _default(comparison: Comparison, other: OtherSide, images: Tensor) -> dict:
    """What the target's own import gives, on some images."""
    try:
        found = comparison.run(other, images, keep_meaning=False)
    except RuntimeError as error:
        return {"agreement": None, "readout_error": None, "error": str(error)}
    return {
        "agreement": found.agreement,
        "readout_error": found.readout_error,
        "images": found.images,
        "differing_spikes": sum(found.differing.values()),
        "spikes": found.spikes,
        "steps_with_several_spikes": found.several,
    }


__all__ = ["TARGETS", "UnexportableError", "export"]
