"""The tables of docs/baselines.md, from run folders and one eval.json.

    python tools/eval.py --run RUN ... --output DIR
    python benchmarks/baselines.py RUN ... --evaluation DIR/eval.json > results.md

Each RUN is a folder of tools/train_direct.py or tools/train_qcfs.py.
"""

import argparse
import datetime
import json
import platform
from pathlib import Path

import torch
import yaml

from spikeswap.data import load_dataset
from spikeswap.evaluate import CONVENTIONS, recount
from spikeswap.models.direct import DirectNetwork
from spikeswap.train import (
    checkpoint_of,
    load_checkpoint,
    read_metrics,
    restore_network,
)

COUNTED = 100  # images that the published conventions are applied to
TRAINING = ("model", "recipe", "parameters", "T", "epochs", "top-1 %", "wall seconds")
EVALUATION = (
    ("model", "name", "{}"),
    ("kind", "kind", "{}"),
    ("T", "timesteps", "{}"),
    ("spikes", "spike_values", "{}"),
    ("top-1 %", "top1", "{:.2f}"),
    ("MACs", "macs", "{:,.0f}"),
    ("ACs", "acs", "{:,.0f}"),
    ("energy, mJ", "energy_millijoules", "{:.4f}"),
    ("/ quantised", "energy_to_quantised", "{:.2f}"),
    ("spikes / synapse", "spikes_per_synapse", "{:.3f}"),
)


def training_row(folder: Path, records: list[dict]) -> list[str]:
    """One row of the training table; top-1 is that of the run's own network in `records`."""
    checkpoint = load_checkpoint(checkpoint_of(folder))
    build = checkpoint["build"]
    model = restore_network(checkpoint)
    count = f"{sum(p.numel() for p in model.parameters()):,}"
    steps = "-"
    if isinstance(model, DirectNetwork):
        steps = str(model.timesteps)
        counts = model.parameter_counts()
        if counts["used"] != counts["all"]:
            count += f" ({counts['used']:,} used)"
    lines = [line for line in read_metrics(folder / "metrics.jsonl") if line["split"] == "train"]
    seconds = sum(line["seconds"] for line in lines)
    name = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["DATA"]["NAME"]
    recipe = folder.name.removesuffix(f"_{name}")
    top1 = next((f"{r['top1']:.2f}" for r in records if r["name"] == folder.name), "-")
    return [build["model"], recipe, count, steps, str(len(lines)), top1, f"{seconds:.0f}"]


def evaluation_row(record: dict) -> list[str]:
    """One row of the evaluation table; "-" where a value could not be had."""
    scaled = "{0, s}" if record["kind"] == "converted" else "{0, 1}"  # s: the site's unit
    return [
        "-" if record[key] is None else form.format(record[key]).replace("[0, 1]", scaled)
        for _, key, form in EVALUATION
    ]


def over_time_rows(records: list[dict]) -> list[list[str]]:
    """Top-1 after 1, 2, 4, ... steps."""
    spiking = [record for record in records if record["top1_by_timestep"]]
    longest = max(len(record["top1_by_timestep"]) for record in spiking)
    steps = [2**n for n in range(longest.bit_length()) if 2**n <= longest]
    rows = [["top-1 % at T =", *map(str, steps)]]
    for record in spiking:
        series = record["top1_by_timestep"]
        values = [f"{series[t - 1]:.2f}" if t <= len(series) else "" for t in steps]
        rows.append([record["name"], *values])
    return rows


def convention_rows(folder: Path) -> list[list[str]]:
    """The same network under the published ways of counting, on the first held-out images."""
    checkpoint = load_checkpoint(checkpoint_of(folder))
    model = restore_network(checkpoint)
    if not isinstance(model, DirectNetwork):
        return []
    build = checkpoint["build"]
    bundle = load_dataset(
        checkpoint["config"]["DATA"]["NAME"],
        path=checkpoint["config"]["DATA"]["PATH"] or None,
        img_size=build["img_size"],
        in_chans=build["in_chans"],
    )
    images = next(iter(bundle.eval_loader(COUNTED)))[0]
    rows = []
    for name in CONVENTIONS:
        if name == build["model"].split("_")[0]:
            found = recount(model, images, name, model.timesteps)
            rows.append(
                [folder.name, name, f"{found.macs:,.0f}", f"{found.acs:,.0f}"]
                + [f"{found.millijoules:.4f}"]
            )
    return rows


def markdown(rows: list[list[str]]) -> str:
    """A Markdown table, the first row its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--evaluation", required=True, type=Path, help="eval.json of these runs")
    arguments = parser.parse_args()
    found = json.loads(arguments.evaluation.read_text(encoding="utf-8"))
    records = found["models"]
    print(markdown([list(TRAINING), *(training_row(run, records) for run in arguments.runs)]))
    print()
    heads = [head for head, _, _ in EVALUATION]
    print(markdown([heads, *(evaluation_row(record) for record in records)]))
    print()
    print(markdown(over_time_rows(records)))
    print()
    counted = [row for run in arguments.runs for row in convention_rows(run)]
    print(markdown([["model", "convention", "MACs", "ACs", "energy, mJ"], *counted]))
    print()
    print(
        f"{found['images']} images of the {found['split']} split of {found['data']}; "
        f"{datetime.date.today():%d %B %Y}, {platform.machine()}, {found['device']}, "
        f"PyTorch {torch.__version__}. {found['data_note']}."
    )


if __name__ == "__main__":
    main()
