"""What do sites everywhere, products by increments and masks save? Energy before and after.

Networks are trained on `mnist5k` for a few epochs at each mask ratio and converted; "before" is the
conversion with dense products and, for the Swin, without the site behind the softmax. Every row stands
against its own quantised twin, the energy model is 45nm-fp32.

    python benchmarks/energy.py                                # some 20 minutes on two cores
    python benchmarks/energy.py --networks swin_nano_bn --masks 0 --epochs 26

The result files of the day, .json and .md, go to benchmarks/results/; a later call adds its rows.
"""

import argparse
import datetime
import json
import platform
import sys
import time
from pathlib import Path

import torch

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.data import load_dataset
from spikeswap.evaluate import evaluate
from spikeswap.models import create_model
from spikeswap.train import seed_everything, train_classifier

SWIN = {"patch_size": 4, "window_size": 4}
NETWORKS = {  # overrides, learning rate, T
    "swin_nano_bn": (SWIN, 3e-3, 14),
    "resnet18": ({"widths": (16, 32, 64, 128)}, 3e-3, 8),
    "vgg16": (
        {"stages": ((16, 16), (32, 32), (64,) * 3, (128,) * 3, (128,) * 3), "hidden": 256},
        3e-3,
        8,
    ),
}
COLUMNS = {
    "network": "network",
    "mask": "mask",
    "way": "products",
    "timesteps": "T",
    "ann": "QCFS top-1 %",
    "top1": "SNN top-1 %",
    "acs": "ACs",
    "product_acs": "of them at products",
    "macs": "MACs",
    "energy": "energy (µJ)",
    "to_ann": "SNN / ANN",
    "to_twin": "SNN / quantised twin",
}


def train(name: str, mask: float, probs_act: bool, options, bundle) -> torch.nn.Module:
    overrides, rate, _ = NETWORKS[name]
    overrides = {**overrides, **({"probs_act": True} if probs_act else {})}
    seed_everything(options.seed)
    model = create_model(name, num_classes=10, img_size=32, in_chans=1, **overrides)
    model = insert_qcfs(model, levels=options.levels, threshold=2.0, mask=mask)
    loader = bundle.train_loader(50, augment="digits", seed=options.seed)
    train_classifier(model, loader, epochs=options.epochs, lr=rate, seed=options.seed)
    return model.eval().requires_grad_(False)


def row(name: str, mask: float, way: str, model, options, batches) -> dict:
    steps = NETWORKS[name][2]
    products = "dense" if way.startswith("dense") else "increments"
    snn = convert_model(model, neuron="multi", products=products, seed=options.seed)
    ann, record = evaluate(model, batches), evaluate(snn, batches, timesteps=steps)
    totals = snn.audit(batches[0][0], timesteps=steps).totals
    at_products = sum(op.acs for op in totals.operations if op.kind == "product")
    return {
        "network": name,
        "mask": mask,
        "way": way,
        "timesteps": steps,
        "ann": ann["top1"],
        "top1": record["top1"],
        "acs": round(record["acs"]),
        "product_acs": round(at_products),
        "macs": round(record["macs"]),
        "energy": round(1000 * record["energy_millijoules"], 2),
        "to_ann": round(record["energy_millijoules"] / ann["energy_millijoules"], 3),
        "to_twin": round(record["energy_to_quantised"], 3),
    }


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--masks", nargs="+", type=float, default=[0.0, 0.5, 0.75])
    parser.add_argument("--epochs", type=int, default=8, help="of training (default: 8)")
    parser.add_argument("--levels", type=int, default=16, help="L (default: 16)")
    parser.add_argument("--images", type=int, default=200, help="held-out digits (default: 200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    return parser.parse_args()


def table(rows: list[dict]) -> str:
    lines = [list(COLUMNS.values()), ["---"] * len(COLUMNS)]
    lines += [[f"{r[key]:,}" if key in ("acs", "macs", "product_acs") else str(r[key])
               for key in COLUMNS] for r in rows]  # fmt: skip
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    options = parse()
    bundle = load_dataset("mnist5k", img_size=32)
    split = bundle.split("val")
    digits = [split[i] for i in range(options.images)]
    images = torch.stack([x for x, _ in digits]).split(50)
    labels = torch.tensor([y for _, y in digits]).split(50)
    batches = list(zip(images, labels, strict=True))
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"energy-{options.epochs}-epochs-{datetime.date.today()}.json"
    about = (
        f"Energy before and after, {datetime.date.today()}: multi, L = {options.levels}, trained on "
        f"mnist5k for {options.epochs} epochs, {options.images} held-out digits, seed {options.seed}; "
        f"45nm-fp32, counts per image; PyTorch {torch.__version__}, {platform.machine()}, "
        f"{torch.get_num_threads()} thread(s)."
    )
    for name in options.networks:
        for mask in options.masks:
            start = time.time()
            model = train(name, mask, False, options, bundle)
            found = [row(name, mask, "dense (before)", model, options, batches)]
            if name.startswith("swin"):
                model = train(name, mask, True, options, bundle)
            found.append(row(name, mask, "increments", model, options, batches))
            print(f"{time.time() - start:.0f} s: {found}", file=sys.stderr, flush=True)
            rows = json.loads(path.read_text()) if path.exists() else []
            rows = [r for r in rows if (r["network"], r["mask"]) != (name, mask)] + found
            path.write_text(json.dumps(rows, indent=1) + "\n")
            path.with_suffix(".md").write_text(f"# {about}\n\n{table(rows)}\n")
    print(path.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
