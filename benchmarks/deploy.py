"""What becomes of a conversion at the other side? One grade for each network, target and bits.

VGG-16 and ResNet-18 (QCFS, L = 16), full and a quarter of the width, and the network for Speck are
trained on `mnist5k`, converted by `if` (T = 32, no masks, thresholds from training images), exported
with `spikeswap.export`, read back by the target's own importer and run on held-out digits beside the
conversion.

    python benchmarks/deploy.py                                       # hours on two cores
    python benchmarks/deploy.py --networks speck quarter-resnet18 --images 100
    python benchmarks/deploy.py --device cuda --networks resnet18 vgg16 --bits 32

sinabs runs in an environment of its own (`make deploy-check`; `--sinabs PYTHON` names another). The
result files of the day go to benchmarks/results/; a later call adds its rows.
"""

import argparse
import datetime
import json
import platform
import shutil
import sys
import time
from pathlib import Path

import torch

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.data import load_dataset
from spikeswap.evaluate import evaluate
from spikeswap.export import export, fit
from spikeswap.models import create_model
from spikeswap.train import seed_everything, train_classifier

ROOT = Path(__file__).resolve().parents[1]
SPECK = {"stages": ((16,), (32,), (64,), (64,)), "hidden": 64}
VGG = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
NETWORKS = {  # name: model, overrides, epochs
    "speck": ("vgg16", SPECK, 20),
    "quarter-resnet18": ("resnet18", {"widths": (16, 32, 64, 128)}, 8),
    "quarter-vgg16": (
        "vgg16",
        {"stages": tuple(tuple(w // 4 for w in stage) for stage in VGG), "hidden": 1024},
        8,
    ),
    "resnet18": ("resnet18", {}, 8),
    "vgg16": ("vgg16", {}, 8),
}
COLUMNS = {
    "network": "network",
    "target": "target",
    "bits": "bits",
    "grade": "grade",
    "agreement": "agreement %",
    "readout_error": "readout error",
    "differ": "spikes that differ",
    "ties": "ties",
    "breaches": "against the rule",
    "top1": "top-1 %",
    "top1_snn": "conversion's top-1 %",
    "default": "own import: agreement %",
    "device": "device",
    "seconds": "seconds",
}


def converted(name: str, options, bundle):
    """The conversion of a network, trained here unless its weights lie in the folder."""
    model_name, overrides, epochs = NETWORKS[name]
    seed_everything(options.seed)
    model = create_model(model_name, num_classes=10, img_size=32, in_chans=1, **overrides)
    model = insert_qcfs(model, levels=16, threshold=2.0).to(options.device)
    path = options.folder / f"{name}.pt"
    if path.is_file():
        model.load_state_dict(torch.load(path, weights_only=True, map_location=options.device))
    else:
        loader = bundle.train_loader(50, augment="digits", seed=options.seed)
        train_classifier(
            model,
            loader,
            epochs=options.epochs or epochs,
            lr=1e-3,
            device=options.device,
            seed=options.seed,
        )
        options.folder.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), path)
    model.eval().requires_grad_(False)
    calibration = bundle.eval_loader(64, split="train", limit=128)
    batches = [images.to(options.device) for images, _ in calibration]
    return convert_model(
        model,
        neuron="if",
        mask=0,
        calibration=batches,
        calibrate="thresholds",
        calibration_steps=32,
    )


def row(name, snn, target, bits, images, labels, options) -> dict:
    folder = options.folder / f"{name}-{target}-{bits}"
    shutil.rmtree(folder, ignore_errors=True)
    start = time.perf_counter()
    found = export(
        snn, folder, target, bits, images, labels=labels, timesteps=32,
        python=options.sinabs if target == "sinabs" else None,
    )  # fmt: skip
    shutil.rmtree(folder)
    default = found["default_import"] or {}
    rule = found.get("rule", {})
    return {
        "network": name,
        "target": target,
        "bits": bits,
        **{key: found.get(key) for key in ("grade", "why", "agreement", "readout_error", "top1")},
        "top1_snn": found.get("top1_snn"),
        "differ": sum(found.get("differing_spikes", {}).values()),
        "spikes": found.get("spikes"),
        "ties": rule.get("ties"),
        "breaches": rule.get("breaches"),
        "readout_of_spikes": rule.get("readout_error"),
        "default": "fails" if default.get("error") else default.get("agreement"),
        "device": options.device,
        "default_says": default.get("error"),
        "fit": fit.lines(found["fit"]),
        "images": found.get("images"),
        "weights": found["weights"],
        "seconds": time.perf_counter() - start,
    }


def written(value) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.1e}"
    return "" if value is None else str(value)


def write(rows: list[dict], options) -> None:
    """The table as JSON and Markdown; rows of an earlier call stay, those of the same case do not."""
    path = ROOT / "benchmarks/results" / f"deploy-{datetime.date.today()}.json"
    kept = json.loads(path.read_text())["rows"] if path.is_file() else []
    case = lambda r: (r["network"], r["target"], r["bits"])  # noqa: E731
    new = {case(r) for r in rows}
    kept = [r for r in kept if case(r) not in new] + rows
    order = list(NETWORKS)
    kept.sort(key=lambda r: (order.index(r["network"]), r["target"], -r["bits"]))
    content = {
        "made": [platform.processor() or platform.machine(), torch.__version__],
        "rows": kept,
    }
    path.write_text(json.dumps(content, indent=1))
    words = " | ".join(COLUMNS.values())
    lines = [
        f"`{' '.join(['python', 'benchmarks/deploy.py', *sys.argv[1:]])}`, {datetime.date.today()}, "
        f"PyTorch {torch.__version__}. Held-out digits of mnist5k, T = 32, {{0, 1}} "
        "spikes, seed 0.",
        "",
        f"| {words} |",
        "| " + " | ".join("---" for _ in COLUMNS) + " |",
    ]
    lines += ["| " + " | ".join(written(r.get(key)) for key in COLUMNS) + " |" for r in kept]
    lines += ["", "What chips say (weights as exported to the first target):", ""]
    seen = {}
    for r in kept:
        if r.get("fit"):
            seen.setdefault(r["network"], r)
    for name, r in seen.items():
        lines += [f"- {name} ({r['weights']:,} weights): " + "; ".join(r["fit"])]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")


def main() -> None:
    this = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    this.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    this.add_argument("--targets", nargs="+", default=["nir", "sinabs", "snntorch", "spikingjelly"])
    this.add_argument("--bits", nargs="+", type=int, default=[32, 16, 8])
    this.add_argument("--images", type=int, default=500)
    this.add_argument("--epochs", type=int, default=0, help="of training (default: as listed)")
    this.add_argument("--device", default="cpu")
    this.add_argument("--seed", type=int, default=0)
    this.add_argument("--sinabs", default=str(ROOT / ".deploy/sinabs/bin/python"))
    this.add_argument("--folder", type=Path, default=Path("runs/deploy"), help="for weights")
    options = this.parse_args()
    bundle = load_dataset("mnist5k", img_size=32)
    loader = bundle.eval_loader(options.images, split="val", limit=options.images)
    images, labels = next(iter(loader))
    images, rows = images.to(options.device), []
    for name in options.networks:
        snn = converted(name, options, bundle)
        top1 = evaluate(snn, [(images, labels)], timesteps=32, device=options.device)["top1"]
        print(f"{name}: {top1} %", flush=True)
        for target in options.targets:
            for bits in options.bits:
                rows.append(row(name, snn, target, bits, images, labels, options))
                print({k: rows[-1].get(k) for k in COLUMNS}, flush=True)
                write(rows, options)


if __name__ == "__main__":
    main()
