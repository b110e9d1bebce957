"""The record of one evaluated model, and the file `eval.json` that holds several."""

import dataclasses
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


@dataclasses.dataclass(slots=True)
class Promised:
    """The columns of a record that scripts may rely on, in order.

    Every one is there; what is null has its reason in `uncounted`.
    """

    name: str | None = None
    kind: str | None = None  # "ann", "converted" or "direct"
    run: str | None = None
    parameters: int | None = None
    timesteps: int | None = None
    neuron: str | None = None
    spike_values: list[int] | None = None
    attention: str | None = None
    readout: str | None = None
    mask: float | None = None
    top1: float | None = None  # percent, as all accuracies
    top5: float | None = None
    top1_by_timestep: list[float] | None = None
    top5_by_timestep: list[float] | None = None
    agreement_with_ann: float | None = None
    macs: float | None = None  # per image, as all counts and energies
    acs: float | None = None
    synaptic_operations: float | None = None
    other_operations: float | None = None
    uncounted: list[str] = dataclasses.field(default_factory=list)
    energy_millijoules: float | None = None
    energy_model: str | None = None
    spikes_per_synapse: float | None = None
    energy_to_quantised: float | None = None
    batch_independent: bool | str | None = None
    firing_rate: dict[str, float] | None = None
    images_per_second: float | None = None


@dataclasses.dataclass(slots=True)
class Record(Promised):
    """One evaluated model: those columns, and what the report draws."""

    images: int | None = None
    classes: int | None = None
    energies: dict[str, dict] | None = None
    rate_times_operations: float | None = None
    spike_driven_share: float | None = None
    layers: list[dict] | None = None
    early_exit: dict[str, float] | None = None
    peak_memory_bytes: int | None = None
    seed: int | None = None
    levels: int | None = None
    calibration: str | None = None
    calibration_parameters: dict[str, int] | None = None
    mask_scaling: str | None = None
    top1_random_masks: float | None = None
    masked_share: float | None = None
    task: str | None = None
    agreement_by_timestep: list[float] | None = None
    error_to_ann: float | None = None
    error_by_timestep: list[float] | None = None
    rms_error_by_timestep: list[float] | None = None
    notes: list[str] = dataclasses.field(default_factory=list)

    def put(self, column: str, value, reason: str = "") -> None:
        """Set a value, or null with its reason."""
        setattr(self, column, value)
        if value is None:
            assert reason, column
            self.uncounted.append(f"{column}: {reason}")

    def as_dict(self) -> dict:
        """As in `eval.json`."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


KEYS = tuple(field.name for field in dataclasses.fields(Promised))


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
                "a neuron sends at most one spike per step"
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
