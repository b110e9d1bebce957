"""A ViT, a Swin and a ConvNeXt of six blocks, trained without any thought of spikes, then converted.

timm's own networks with layer norm and GELU, on `mnist5k` (4,000 training digits); thresholds from 128
training images by the rule that `convert_model` chooses, `multi`. The loss is the quantised network's
against the trained one on all 1,000 held-out digits; "exact from" is the first step from which the
logits are the quantised network's, on 64 of them in float64.

    python benchmarks/small_transformers.py                       # about a quarter of an hour
    python benchmarks/small_transformers.py --networks vit --levels 32 64

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
from timm.models.convnext import ConvNeXt
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

from spikeswap.calibrate import activation_thresholds
from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.data import load_dataset
from spikeswap.train import seed_everything, train_classifier

COMMON = {"num_classes": 10, "in_chans": 1}
NETWORKS = {
    "vit": lambda: VisionTransformer(
        img_size=32, patch_size=4, embed_dim=64, depth=6, num_heads=4, **COMMON
    ),
    "swin": lambda: SwinTransformer(
        img_size=32, patch_size=2, embed_dim=32, depths=(2, 2, 2), num_heads=(2, 4, 8),
        window_size=4, **COMMON,
    ),
    "convnext": lambda: ConvNeXt(patch_size=2, depths=(2, 2, 2), dims=(32, 64, 128), **COMMON),
}  # fmt: skip


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@torch.no_grad()
def top1(model, images, labels) -> float:
    logits = torch.cat([model(part) for part in images.split(100)])
    return 100 * (logits.argmax(-1) == labels).double().mean().item()


def measure(name: str, options, bundle) -> list[dict]:
    seed_everything(options.seed)
    model = NETWORKS[name]()
    loader = bundle.train_loader(50, augment="digits", seed=options.seed)
    train_classifier(model, loader, epochs=options.epochs, lr=options.lr, seed=options.seed)
    model.eval().requires_grad_(False)
    train, split = bundle.split("train"), bundle.split("val")
    calibration = torch.stack([train[i][0] for i in range(128)]).split(64)
    images = torch.stack([image for image, _ in split])
    labels = torch.tensor([label for _, label in split])
    own, rows = top1(model, images, labels), []
    for levels in options.levels:
        chosen = convert_model(model, neuron="multi", calibration=calibration, levels=levels)
        rule = chosen.info.fidelity.method
        thresholds = activation_thresholds(
            model, calibration, method=rule, levels=levels, sites="all"
        )
        quantised = insert_qcfs(
            model, levels, thresholds=thresholds, sites="all", example_inputs=images[:2]
        ).eval()
        exact = quantised.double()
        snn = convert_model(exact, neuron="multi")
        few = images[:64].double()
        with torch.no_grad():
            expected, readout = exact(few), snn(few, timesteps=options.steps)
        wrong = [t for t, x in enumerate(readout, 1) if error(x, expected) > 1e-6]
        audit = snn.audit(few[:16], timesteps=options.steps).totals
        neurons = sum(site.neurons for site in audit.sites.values())
        rows.append(
            {
                "network": name,
                "levels": levels,
                "method": rule,
                "own": own,
                "quantised": top1(exact, images.double(), labels),
                "exact_from": max(wrong, default=0) + 1,
                "spikes_per_neuron": audit.spikes / neurons,
                "share": audit.spike_driven_share,
            }
        )
    return rows


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--levels", nargs="+", type=int, default=[16, 32, 64])
    parser.add_argument("--epochs", type=int, default=12, help="of training (default: 12)")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--steps", type=int, default=24, help="T (default: 24)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    return parser.parse_args()


def table(rows: list[dict]) -> str:
    head = [
        "network",
        "L",
        "thresholds",
        "own top-1 %",
        "quantised top-1 %",
        "exact from",
        "spikes per neuron",
    ]
    lines = [head, ["---"] * len(head)]
    lines += [
        [
            row["network"],
            str(row["levels"]),
            row["method"],
            f"{row['own']:.1f}",
            f"{row['quantised']:.1f}",
            str(row["exact_from"]),
            f"{row['spikes_per_neuron']:.2f}",
        ]
        for row in rows
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    options = parse()
    bundle = load_dataset("mnist5k", img_size=32)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"small_transformers-{datetime.date.today()}.json"
    about = (
        f"# Small transformers as timm has them, {datetime.date.today()}\n\nTrained on mnist5k for "
        f"{options.epochs} epochs (4,000 digits, seed {options.seed}), thresholds from 128 "
        f"training images, multi, T = {options.steps}; top-1 on 1,000 held-out digits, exactness on 64 "
        f"in float64. PyTorch {torch.__version__}, {platform.machine()}, "
        f"{torch.get_num_threads()} thread(s)."
    )
    for name in options.networks:
        start = time.time()
        found = measure(name, options, bundle)
        print(f"{time.time() - start:.0f} s: {found}", file=sys.stderr, flush=True)
        rows = json.loads(path.read_text()) if path.exists() else []
        rows = [row for row in rows if row["network"] != name] + found
        path.write_text(json.dumps(rows, indent=1) + "\n")
        path.with_suffix(".md").write_text(f"{about}\n\n{table(rows)}\n")
    print(path.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
