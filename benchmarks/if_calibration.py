"""Ablation of the calibration of binary IF neurons: plain, thresholds, step-wise bias, both.

    python benchmarks/if_calibration.py RUN [RUN ...] --images 1000 --T 256

Each RUN is a folder that tools/train_qcfs.py wrote. Calibration sees images of the training split,
the table images of the held-out split. Writes if_calibration-RUN-DATE.md, .json and a figure of the
error along the depth for each run.
"""

import argparse
import datetime
import json
import platform
import time
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import torch

from spikeswap.convert import clipped, convert_model, layer_errors
from spikeswap.data import load_dataset
from spikeswap.train import checkpoint_of, find_run, load_checkpoint, restore_network

matplotlib.use("Agg")

VARIANTS = {
    "plain": None,
    "thresholds": "thresholds",
    "bias alone": "bias-alone",
    "both": "bias",
    "both, bias everywhere": "bias-everywhere",
}


def load_run(folder: Path):
    """The trained network of a run folder, how it was built, and its data set."""
    checkpoint = load_checkpoint(checkpoint_of(find_run(folder)))
    build, config = checkpoint["build"], checkpoint["config"]
    bundle = load_dataset(
        config["DATA"]["NAME"], img_size=build["img_size"], in_chans=build["in_chans"]
    )
    return restore_network(checkpoint), build, bundle


def gather(bundle, split: str, count: int):
    loader = bundle.eval_loader(100, split=split, limit=count)
    batches = list(loader)
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def chosen(bundle, count: int):
    """Images of the training split, as tools/convert.py chooses them with seed 0."""
    train = bundle.split("train")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    return torch.stack([train[int(i)][0] for i in order[:count]])


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


def ablation(
    folder: Path, count: int, timesteps: int, calibration_images: int, variants: list[str]
) -> dict:
    network, build, bundle = load_run(folder)
    images, labels = gather(bundle, "val", count)
    fit = chosen(bundle, calibration_images)
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
        "depth_T": min(64, timesteps),
        "variants": {},
    }
    for name in variants:
        method = VARIANTS[name]
        extra = {} if method is None else {"calibrate": method, "calibration_steps": timesteps}
        started = time.perf_counter()
        snn = convert_model(network, calibration=None if method is None else [fit], **extra)
        seconds = time.perf_counter() - started
        rows = measure(snn, images, labels, reference, quantised, steps)
        errors = layer_errors(snn, network, fit[:16], min(64, timesteps))
        result["variants"][name] = {
            "seconds_to_convert": seconds,
            "calibration": snn.info.get("calibration_text"),
            "bias_parameters": (snn.info.get("calibration") or {}).get("bias_parameters", 0),
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
            if variant["bias_parameters"]:
                name = f"{name} ({variant['bias_parameters']:,} values)"
            for readout in ("mean", "second-half"):
                cells = [
                    f"{r['top1']:.2f} / {r['error']:.3f} / {r['differs_from_qcfs']}"
                    for r in variant["rows"]
                    if r["readout"] == readout
                ]
                lines.append(f"| {name} | {readout} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(result: dict, path: Path) -> None:
    """Error of every site's estimate along the depth, before and after, and what it adds itself."""
    figure, axes = plt.subplots(figsize=(7.5, 3.6), constrained_layout=True)
    colours = {"plain": "#D55E00", "thresholds": "#E69F00", "both": "#0072B2"}
    for name, colour in colours.items():
        if name not in result["variants"]:
            continue
        rows = result["variants"][name]["error_along_depth"]
        places = range(1, len(rows) + 1)
        axes.plot(places, [100 * r[1] for r in rows], color=colour, label=f"{name}: error")
        axes.plot(
            places,
            [100 * r[2] for r in rows],
            color=colour,
            linewidth=0.9,
            linestyle=":",
            label=f"{name}: added by the site itself",
        )
    axes.set(
        xlabel="site, in the order of the data flow",
        ylabel="relative error of the estimate (%)",
        title=f"{result['model']}: error along the depth at T = {result['depth_T']}, mean of all steps",
        ylim=(0, None),
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2, frameon=False)
    figure.savefig(path, dpi=160)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--images", type=int, default=1000, help="held-out images (default 1000)")
    parser.add_argument("--T", type=int, default=256, help="time steps (default 256)")
    parser.add_argument("--calibration-images", type=int, default=128)
    parser.add_argument(
        "--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="NAME"
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    date = datetime.date.today().isoformat()
    about = {
        "date": date,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s), float32",
        "neurons": "if, spikes {0, s}, accumulated attention, fresh masks each step, seed 0",
        "calibration": f"{arguments.calibration_images} images of the training split, "
        f"steps {arguments.T}",
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    for run in arguments.runs:
        result = ablation(
            find_run(run),
            arguments.images,
            arguments.T,
            arguments.calibration_images,
            arguments.variants,
        )
        stem = arguments.output / f"if_calibration-{result['run']}-{date}"
        stem.with_suffix(".md").write_text(as_markdown([result], about))
        stem.with_suffix(".json").write_text(json.dumps([about, result], indent=1))
        draw(result, stem.with_suffix(".png"))
        print(as_markdown([result], about))


if __name__ == "__main__":
    main()
