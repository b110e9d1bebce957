"""From which step on is a spiking network its QCFS network? Model x neuron x T, on real digits.

Each model is trained on the 4,000 training digits of `mnist5k` for a few epochs, converted without
masks, and compared on held-out digits in float64:

* `multi` and `stbif` against the QCFS network: the first step from which the relative error of the
  logits stays at or below 1e-6 and every prediction agrees;
* `if` (accumulated attention) against the clipped network: the error at T = 64, 128, ... and the
  largest share of it that one doubling of T left.

    python benchmarks/exactness.py                      # narrow models, minutes
    python benchmarks/exactness.py --width full         # as published, about an hour on two cores
    python benchmarks/exactness.py --models resnet18 --epochs 3 --images 64

The result files of the day, .json and .md, go to benchmarks/results/; a later call adds its models.
"""

import argparse
import datetime
import json
import platform
import sys
import time
from pathlib import Path

import torch

from spikeswap.convert import clipped, convert_model, insert_qcfs
from spikeswap.data import load_dataset
from spikeswap.models import create_model
from spikeswap.train import seed_everything, train_classifier

SWIN = {"patch_size": 4, "window_size": 4}
NARROW_SWIN = {**SWIN, "embed_dim": 24, "num_heads": (1, 2, 4, 8)}
WIDE = {  # name: (registry name, overrides, learning rate)
    "swin_nano": ("swin_nano_bn", SWIN, 3e-3),
    "swin_t": ("swin_t_bn", SWIN, 1e-3),
    "swin_s": ("swin_s_bn", SWIN, 1e-3),
    "mst_swin_t": ("mst_swin_t", SWIN, 1e-3),
    "mst_swin_t_cifar": ("mst_swin_t", {**SWIN, "dataset": "cifar"}, 1e-3),
    "resnet18": ("resnet18", {}, 1e-3),
    "resnet20": ("resnet20", {}, 2e-3),
    "resnet34": ("resnet34", {}, 1e-3),
    "vgg16": ("vgg16", {}, 1e-3),
    "cifar10_cnn": ("cifar10_cnn", {}, 1e-3),
}
NARROW = {
    "swin_nano": ("swin_nano_bn", {**SWIN, "embed_dim": 24, "num_heads": (1, 2)}, 3e-3),
    "swin_t": ("swin_t_bn", NARROW_SWIN, 3e-3),
    "swin_s": ("swin_s_bn", NARROW_SWIN, 3e-3),
    "mst_swin_t": ("mst_swin_t", NARROW_SWIN, 3e-3),
    "mst_swin_t_cifar": ("mst_swin_t", {**NARROW_SWIN, "dataset": "cifar"}, 3e-3),
    "resnet18": ("resnet18", {"widths": (16, 32, 64, 128)}, 3e-3),
    "resnet20": ("resnet20", {}, 3e-3),
    "resnet34": ("resnet34", {"widths": (16, 32, 64, 128)}, 3e-3),
    "vgg16": (
        "vgg16",
        {"stages": ((16, 16), (32, 32), (64,) * 3, (128,) * 3, (128,) * 3), "hidden": 256},
        3e-3,
    ),
    "cifar10_cnn": ("cifar10_cnn", {"widths": (32, 64, 128), "hidden": 256}, 3e-3),
}


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--models",
        nargs="+",
        choices=list(WIDE),
        default=list(WIDE),
        metavar="NAME",
        help=f"models (default: all of {', '.join(WIDE)})",
    )
    parser.add_argument(
        "--width",
        choices=("narrow", "full"),
        default="narrow",
        help="channels: a quarter, or as published (default: narrow)",
    )
    parser.add_argument("--epochs", type=int, default=5, help="epochs of training (default: 5)")
    parser.add_argument("--levels", type=int, default=16, help="levels L of QCFS (default: 16)")
    parser.add_argument("--images", type=int, default=64, help="held-out digits (default: 64)")
    parser.add_argument(
        "--rate-steps",
        type=int,
        default=1024,
        help="largest T of rate coding, a power of two; 0: none (default: 1024)",
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).parent / "results",
        help="folder of the result file (default: benchmarks/results)",
    )
    return parser.parse_args()


def train(name: str, options, bundle) -> torch.nn.Module:
    """A QCFS network after some epochs, in float64 and eval mode."""
    registry_name, overrides, rate = (NARROW if options.width == "narrow" else WIDE)[name]
    seed_everything(options.seed)
    model = create_model(registry_name, num_classes=10, img_size=32, in_chans=1, **overrides)
    model = insert_qcfs(model, levels=options.levels, threshold=2.0)
    loader = bundle.train_loader(50, augment="digits", seed=options.seed)
    train_classifier(model, loader, epochs=options.epochs, lr=rate, seed=options.seed)
    return model.double().eval()


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def exact_from(readout_TBC: torch.Tensor, expected: torch.Tensor) -> str:
    """First step from which on the readout is the QCFS network's."""
    right = [
        error(logits, expected) <= 1e-6 and bool((logits.argmax(-1) == expected.argmax(-1)).all())
        for logits in readout_TBC
    ]
    if not right[-1]:
        return f"- ({error(readout_TBC[-1], expected):.0e} at {len(right)})"
    wrong = [t for t, ok in enumerate(right, 1) if not ok]
    return str(max(wrong, default=0) + 1)


def measure(name: str, options, bundle) -> dict:
    """What the two tables say of one model."""
    start = time.time()
    model = train(name, options, bundle).requires_grad_(False)
    split = bundle.split("val")
    digits = [split[i] for i in range(options.images)]
    images = torch.stack([x for x, _ in digits]).double()
    labels = torch.tensor([y for _, y in digits])
    expected, limit = model(images), clipped(model)(images)
    top1 = 100 * (expected.argmax(-1) == labels).double().mean().item()
    row = {"model": name, "epochs": options.epochs, "seed": options.seed, "top1": top1}
    for neuron in ("multi", "stbif"):
        snn = convert_model(model, neuron=neuron)
        row["sites"] = sites = len(snn.sites)
        steps = 24 + sites // 4 if neuron == "multi" else 2 * options.levels + sites + 20
        row[neuron] = exact_from(snn(images, timesteps=steps), expected)
    row["if"] = {}
    times = [64 * 2**i for i in range(20) if 64 * 2**i <= options.rate_steps]
    if times:
        snn = convert_model(model)
        for readout in ("mean", "second-half"):
            logits = snn(images, timesteps=times[-1], readout=readout)
            row["if"][readout] = [error(logits[t - 1], limit) for t in times]
    print(f"{time.time() - start:.0f} s: {row}", file=sys.stderr, flush=True)
    return row


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(width: str, about: str, rows: list[dict]) -> str:
    exact = [
        [
            r["model"],
            str(r["sites"]),
            str(r["epochs"]),
            f"{r['top1']:.1f}",
            r["multi"],
            r["stbif"],
        ]
        for r in rows
    ]
    rates = [
        [
            r["model"],
            readout,
            " / ".join(f"{e:.3f}" for e in errors),
            f"{max(100 * b / a for a, b in zip(errors, errors[1:], strict=False)):.0f} %",
        ]
        for r in rows
        for readout, errors in r["if"].items()
    ]
    parts = [
        f"# Exactness, {width} width, {datetime.date.today()}",
        about,
        "First step from which on the readout is the QCFS network's (relative error of the logits "
        "<= 1e-6, all predictions equal):",
        table(["model", "sites", "epochs", "top-1 (%)", "multi", "stbif"], exact),
    ]
    if rates:
        parts += [
            "`if`, accumulated attention, against the clipped network (relative error of the logits):",
            table(["model", "readout", "T = 64 / 128 / ...", "left by a doubling, at most"], rates),
        ]
    return "\n\n".join(parts)


def main() -> None:
    options = parse()
    bundle = load_dataset("mnist5k", img_size=32)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"exactness-{options.width}-{datetime.date.today()}.json"
    about = (
        f"{options.width} width, trained on mnist5k (4,000 digits), L = {options.levels}, mask 0, "
        f"{options.images} held-out digits, float64, seed {options.seed}; PyTorch "
        f"{torch.__version__}, {platform.machine()}, {torch.get_num_threads()} thread(s)."
    )
    for name in options.models:  # the files are whole after every model
        row = measure(name, options, bundle)
        rows = json.loads(path.read_text()) if path.exists() else []
        rows = [r for r in rows if r["model"] != name] + [row]
        rows.sort(key=lambda r: list(WIDE).index(r["model"]))
        path.write_text(json.dumps(rows, indent=1) + "\n")
        path.with_suffix(".md").write_text(report(options.width, about, rows) + "\n")
    print(f"{path.with_suffix('.md').read_text()}\nwritten to {path.with_suffix('.md')}")


if __name__ == "__main__":
    main()
