"""Ablation of the calibration of binary IF neurons: plain, thresholds, step-wise bias, both.

    python benchmarks/if_calibration.py RUN [RUN ...] --images 1000 --T 256

Each RUN is a folder that tools/train_qcfs.py wrote. Calibration sees images of the training split,
the table images of the held-out split. Writes if_calibration-DATE.md and .json.
"""

import argparse
import datetime
import json
import platform
import time
from pathlib import Path

import torch

from spikeswap.convert import clipped, convert_model, layer_errors
from spikeswap.data import load_dataset
from spikeswap.train import checkpoint_of, find_run, load_checkpoint, restore_network

VARIANTS = {"plain": None, "thresholds": "thresholds", "bias alone": "bias-alone", "both": "bias"}


def gather(bundle, split: str, count: int):
    loader = bundle.eval_loader(100, split=split, limit=count)
    batches = list(loader)
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def measure(snn, images, labels, reference, quantised, steps: list[int]) -> list[dict]:
    """Accuracy, error and paired disagreements at these T, for both readouts."""
    rows = []
    outputs = {"mean": [], "second-half": []}
    for start in range(0, len(images), 100):
        batch = images[start : start + 100]
        mean = snn(batch, timesteps=steps[-1], first_index=start, readout="mean")
        sums = mean * torch.arange(1, steps[-1] + 1).view(-1, 1, 1)
        outputs["mean"].append(mean[[t - 1 for t in steps]])
        half = [(sums[t - 1] - sums[t // 2 - 1]) / (t - t // 2) for t in steps]
        outputs["second-half"].append(torch.stack(half))
    for readout, parts in outputs.items():
        logits = torch.cat(parts, 1)
        for t, out in zip(steps, logits, strict=True):
            chosen = out.argmax(-1)
            rows.append(
                {
                    "readout": readout,
                    "T": t,
                    "top1": 100 * (chosen == labels).double().mean().item(),
                    "error": ((out - reference).norm() / reference.norm()).item(),
                    "differs_from_clipped": int((chosen != reference.argmax(-1)).sum()),
                    "differs_from_qcfs": int((chosen != quantised.argmax(-1)).sum()),
                }
            )
    return rows


def ablation(folder: Path, count: int, timesteps: int, calibration_images: int) -> dict:
    checkpoint = load_checkpoint(checkpoint_of(folder))
    build, config = checkpoint["build"], checkpoint["config"]
    network = restore_network(checkpoint)
    bundle = load_dataset(
        config["DATA"]["NAME"], img_size=build["img_size"], in_chans=build["in_chans"]
    )
    images, labels = gather(bundle, "val", count)
    fit, _ = gather(bundle, "train", calibration_images)
    with torch.no_grad():
        quantised = torch.cat([network(x) for x in images.split(100)])
        clip = clipped(network)
        reference = torch.cat([clip(x) for x in images.split(100)])
    steps = [t for t in (8, 16, 32, 64, 128, 256) if t <= timesteps]
    accuracy = lambda z: 100 * (z.argmax(-1) == labels).double().mean().item()  # noqa: E731
    result = {
        "run": folder.name,
        "model": build["model"],
        "mask": build["mask"],
        "images": len(images),
        "qcfs_top1": accuracy(quantised),
        "clipped_top1": accuracy(reference),
        "variants": {},
    }
    for name, method in VARIANTS.items():
        extra = {} if method is None else {"calibrate": method, "calibration_steps": timesteps}
        started = time.perf_counter()
        snn = convert_model(network, calibration=None if method is None else [fit], **extra)
        seconds = time.perf_counter() - started
        rows = measure(snn, images, labels, reference, quantised, steps)
        errors = layer_errors(snn, network, fit[:16], min(64, timesteps))
        result["variants"][name] = {
            "seconds_to_convert": seconds,
            "calibration": snn.info.get("calibration"),
            "rows": rows,
            "error_along_depth": [(r["name"], r["error"], r["unevenness"]) for r in errors],
        }
        print(build["model"], name, f"{seconds:.1f} s to convert", flush=True)
    return result


def as_markdown(results: list[dict], about: dict) -> str:
    lines = ["# Calibration of IF neurons", "", *(f"- {k}: {v}" for k, v in about.items())]
    for result in results:
        steps = sorted({r["T"] for v in result["variants"].values() for r in v["rows"]})
        lines += [
            "",
            f"## {result['model']} ({result['run']}), mask {result['mask']}",
            "",
            f"{result['images']} held-out images; QCFS network {result['qcfs_top1']:.2f} %, clipped "
            f"network {result['clipped_top1']:.2f} %. Cells: top-1 % / relative logit error against "
            "the clipped network / images that differ from the QCFS network.",
            "",
            "| conversion | readout | " + " | ".join(f"T={t}" for t in steps) + " |",
            "| --- | --- |" + " --- |" * len(steps),
        ]
        for name, variant in result["variants"].items():
            for readout in ("mean", "second-half"):
                cells = [
                    f"{r['top1']:.2f} / {r['error']:.3f} / {r['differs_from_qcfs']}"
                    for r in variant["rows"]
                    if r["readout"] == readout
                ]
                lines.append(f"| {name} | {readout} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="run folders")
    parser.add_argument("--images", type=int, default=1000, help="held-out images (default 1000)")
    parser.add_argument("--T", type=int, default=256, help="time steps (default 256)")
    parser.add_argument("--calibration-images", type=int, default=128)
    parser.add_argument("--output", default=str(Path(__file__).parent / "results"))
    arguments = parser.parse_args()
    results = [
        ablation(find_run(Path(r)), arguments.images, arguments.T, arguments.calibration_images)
        for r in arguments.runs
    ]
    date = datetime.date.today().isoformat()
    about = {
        "date": date,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, float32",
        "calibration": f"{arguments.calibration_images} images of the training split, "
        f"steps {arguments.T}",
    }
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"if_calibration-{date}.md").write_text(as_markdown(results, about))
    (folder / f"if_calibration-{date}.json").write_text(json.dumps([about, *results], indent=1))
    print(as_markdown(results, about))


if __name__ == "__main__":
    main()
