"""What does TRAIN.SPIKE_COST save, and what does it cost? Accuracy against accumulations.

`swin_nano_bn` (with the site behind the softmax, no masks) is trained on `mnist5k` at several weights of
the spike cost and several levels L, converted by `multi` and evaluated on held-out digits. Every row
stands against its own quantised twin; the energy model is 45nm-fp32.

    python benchmarks/fewer_spikes.py                                   # some 30 minutes on two cores
    python benchmarks/fewer_spikes.py --levels 4 --weights 0 1 --epochs 26

The result files of the day, .json, .md and the figure, go to benchmarks/results/; a later call adds its
rows.
"""

import argparse
import datetime
import json
import platform
import sys
import time
from pathlib import Path

import torch
from matplotlib.figure import Figure

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.data import load_dataset
from spikeswap.evaluate import evaluate
from spikeswap.models import create_model
from spikeswap.train import seed_everything, train_classifier

OVERRIDES = {"patch_size": 4, "window_size": 4, "probs_act": True}
COLUMNS = {
    "levels": "L",
    "weight": "SPIKE_COST",
    "ann": "QCFS top-1 %",
    "top1": "SNN top-1 %",
    "acs": "ACs",
    "spikes": "spikes per neuron",
    "energy": "energy (µJ)",
    "to_twin": "SNN / quantised twin",
}


def measure(levels: int, weight: float, options, bundle, batches) -> dict:
    seed_everything(options.seed)
    model = create_model("swin_nano_bn", num_classes=10, img_size=32, in_chans=1, **OVERRIDES)
    model = insert_qcfs(model, levels=levels, threshold=2.0)
    loader = bundle.train_loader(50, augment="digits", seed=options.seed)
    train_classifier(
        model, loader, epochs=options.epochs, lr=3e-3, seed=options.seed, spike_cost=weight
    )
    model.eval().requires_grad_(False)
    snn = convert_model(model, neuron="multi", seed=options.seed)
    ann, record = evaluate(model, batches), evaluate(snn, batches, timesteps=options.steps)
    totals = snn.audit(batches[0][0], timesteps=options.steps).totals
    return {
        "levels": levels,
        "weight": weight,
        "ann": ann["top1"],
        "top1": record["top1"],
        "acs": round(record["acs"]),
        "spikes": round(totals.spikes / sum(site.neurons for site in totals.sites.values()), 3),
        "energy": round(1000 * record["energy_millijoules"], 2),
        "to_twin": round(record["energy_to_quantised"], 3),
    }


def figure(rows: list[dict]) -> Figure:
    drawing = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = drawing.subplots()
    for levels, marker in zip(sorted({row["levels"] for row in rows}), "osD^v", strict=False):
        line = sorted((r for r in rows if r["levels"] == levels), key=lambda r: r["weight"])
        x, y = [r["acs"] / 1e6 for r in line], [r["top1"] for r in line]
        axes.plot(x, y, marker=marker, label=f"L = {levels}")
        for row, at_x, at_y in zip(line, x, y, strict=True):
            axes.annotate(f"{row['weight']:g}", (at_x, at_y), (4, 4), textcoords="offset points",
                          fontsize=8)  # fmt: skip
    axes.set(xlabel="accumulations per image (millions)", ylabel="SNN top-1 (%)")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(title="numbers: SPIKE_COST", frameon=False)
    return drawing


def table(rows: list[dict]) -> str:
    lines = [list(COLUMNS.values()), ["---"] * len(COLUMNS)]
    lines += [[f"{r[key]:,}" if key == "acs" else f"{r[key]:g}" for key in COLUMNS] for r in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--levels", nargs="+", type=int, default=[16, 4], help="L (default: 16 4)")
    parser.add_argument("--weights", nargs="+", type=float, default=[0.0, 0.3, 1.0, 3.0])
    parser.add_argument("--epochs", type=int, default=12, help="of training (default: 12)")
    parser.add_argument("--steps", type=int, default=14, help="T (default: 14)")
    parser.add_argument("--images", type=int, default=1000, help="held-out digits (default: 1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    return parser.parse_args()


def main() -> None:
    options = parse()
    bundle = load_dataset("mnist5k", img_size=32)
    split = bundle.split("val")
    digits = [split[i] for i in range(options.images)]
    images = torch.stack([x for x, _ in digits]).split(50)
    labels = torch.tensor([y for _, y in digits]).split(50)
    batches = list(zip(images, labels, strict=True))
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"fewer_spikes-{options.epochs}-epochs-{datetime.date.today()}.json"
    about = (
        f"Fewer spikes, {datetime.date.today()}: swin_nano_bn, mask 0, multi, T = {options.steps}, "
        f"trained on mnist5k for {options.epochs} epochs, {options.images} held-out digits, seed "
        f"{options.seed}; 45nm-fp32, counts per image; PyTorch {torch.__version__}, "
        f"{platform.machine()}, {torch.get_num_threads()} thread(s)."
    )
    for levels in options.levels:
        for weight in options.weights:
            start = time.time()
            row = measure(levels, weight, options, bundle, batches)
            print(f"{time.time() - start:.0f} s: {row}", file=sys.stderr, flush=True)
            rows = json.loads(path.read_text()) if path.exists() else []
            rows = [r for r in rows if (r["levels"], r["weight"]) != (levels, weight)] + [row]
            rows.sort(key=lambda r: (-r["levels"], r["weight"]))
            path.write_text(json.dumps(rows, indent=1) + "\n")
            path.with_suffix(".md").write_text(f"# {about}\n\n{table(rows)}\n")
            figure(rows).savefig(path.with_suffix(".svg"))
    print(path.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
