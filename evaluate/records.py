"""The record of one evaluated model, and the file `eval.json` that holds several."""

import json
import sys
from collections.abc import Sequence
from numbers import Real
from pathlib import Path

from ..support.atomic import write_file
from ..support.files import read_json
from ..support.messages import shown
from ..support.versions import versions

SCHEMA = 1

# Keys of a record, in order; every one is there, null with its reason in `uncounted` if need be.
KEYS = (
    "name",
    "kind",
    "run",
    "parameters",
    "timesteps",
    "neuron",
    "spike_values",
    "attention",
    "readout",
    "mask",
    "top1",
    "top5",
    "top1_by_timestep",
    "top5_by_timestep",
    "agreement_with_ann",
    "macs",
    "acs",
    "synaptic_operations",
    "other_operations",
    "uncounted",
    "energy_millijoules",
    "energy_model",
    "spikes_per_synapse",
    "energy_to_quantised",
    "batch_independent",
    "firing_rate",
    "images_per_second",
)
# Beyond the keys that scripts may rely on: what the report draws.
EXTRA = (
    "images",
    "classes",
    "energies",
    "rate_times_operations",
    "spike_driven_share",
    "layers",
    "early_exit",
    "peak_memory_bytes",
    "seed",
    "levels",
    "calibration",
    "calibration_parameters",
    "mask_scaling",
    "top1_random_masks",
    "masked_share",
    "notes",
)


def write_eval_json(
    records: Sequence[dict],
    folder,
    *,
    data: str,
    split: str,
    images: int,
    device: str = "cpu",
    **more,
) -> Path:
    """Write `eval.json` into a folder (to a temporary name first); returns its path.

    Args:
        records: what `evaluate` returned, one a model.
        data, split: name of the data set and of the split.
        images: how many images were evaluated.
        device: where.
        more: further plain values of the run, such as `limit`, `total_images` or `data_note`.
    """
    for record in records:
        check_record(record)
    content = {
        "schema": SCHEMA,
        "data": data,
        "split": split,
        "images": int(images),
        "device": str(device),
        "versions": versions(),
        **more,
        "models": list(records),
    }
    path = Path(folder) / "eval.json"
    write_file(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return path


def read_eval_json(path) -> dict:
    """The content of an `eval.json` (or of the one in a folder).

    Raises:
        ValueError: no such file, no JSON, another schema, or impossible values in it.
    """
    path = Path(path)
    path = path / "eval.json" if path.is_dir() else path
    content = read_json(path, "evaluation", "run tools/eval.py on this run again")
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise ValueError(
            f"{path}: schema {shown(schema)}, this version reads schema {SCHEMA}; evaluate "
            "the run again with this version"
        )
    for key in ("data", "split", "images", "models"):
        if key not in content:
            raise ValueError(f"{path}: {key!r} is missing; evaluate the run again")
    if not isinstance(content["models"], list):
        raise ValueError(f"{path}: models is no list; evaluate the run again")
    for record in content["models"]:
        try:
            check_record(record)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return content


def check_record(record: dict) -> None:
    """ValueError unless a record has all its keys and its numbers are possible."""
    if not isinstance(record, dict) or not isinstance(record.get("name"), str):
        raise ValueError(f"{shown(record)} is no record with a name; use what evaluate() returned")
    name = record["name"]
    missing = [key for key in KEYS if key not in record]
    if missing:
        raise ValueError(
            f"record of {name!r} lacks {', '.join(missing)}; use what evaluate() returned"
        )
    rates, uncounted = record["firing_rate"], record["uncounted"]
    if not isinstance(rates, dict | None) or not isinstance(uncounted, list):
        raise ValueError(f"record of {name!r}: firing_rate or uncounted is of a wrong type")
    for site, rate in (rates or {}).items():
        if not _within(rate, 1):
            raise ValueError(
                f"record of {name!r}: firing rate {shown(rate)} of {site} is outside [0, 1]; "
                "a neuron sends at most one spike a step"
            )
    for key in ("top1", "top5", "agreement_with_ann"):
        if record[key] is not None and not _within(record[key], 100):
            raise ValueError(f"record of {name!r}: {key} is {shown(record[key])}, no percentage")
    for key in ("macs", "acs", "energy_millijoules", "spikes_per_synapse"):
        if record[key] is not None and not _within(record[key], sys.float_info.max):
            raise ValueError(
                f"record of {name!r}: {key} is {shown(record[key])}; it must be at least 0"
            )
    told = " ".join(str(text) for text in uncounted)
    silent = [key for key in KEYS if record[key] is None and key not in told]
    if silent:
        raise ValueError(
            f"record of {name!r}: {', '.join(silent)} is null without a reason in 'uncounted'"
        )


def _within(value, most: float) -> bool:
    """Whether a value is a number from 0 to `most`."""
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= value <= most
