"""How much the calibration of IF neurons depends on its images, what it costs, and cheaper tables.

    python benchmarks/if_calibration_robustness.py RUN --images 300 --T 64

Other images, fewer images, another seed of the masks; evaluation on shifted and rotated images; the
step-wise bias replaced by its best approximation of low rank over time; the time that fitting takes
against the simulation of the same images. Writes if_calibration_robustness-NAME-DATE.md.
"""

import argparse
import datetime
import functools
import platform
import statistics
import time
from pathlib import Path

import torch
import torchvision.transforms.functional as F
from if_calibration import chosen, gather, load_run

from spikeswap.calibrate import fitted_thresholds
from spikeswap.convert import calibration, clipped, convert_model


def second_half_errors(snn, images, reference, steps: list[int]) -> list[float]:
    """Relative error of the second-half readout at these T."""
    sums = torch.zeros(len(steps), 2)
    for start in range(0, len(images), 100):
        batch, target = images[start : start + 100], reference[start : start + 100]
        out = snn(batch, timesteps=steps[-1], first_index=start, readout="second-half")
        for i, t in enumerate(steps):
            sums[i, 0] += (out[t - 1] - target).square().sum()
            sums[i, 1] += target.square().sum()
    return (sums[:, 0] / sums[:, 1]).sqrt().tolist()


def moved(images):
    """Rotated by -12 to 12 degrees and shifted by up to one pixel, each image in its own way."""
    return torch.stack(
        [
            F.affine(
                x,
                angle=6.0 * (i % 5 - 2),
                translate=[i % 3 - 1, i // 3 % 3 - 1],
                scale=1.0,
                shear=[0.0],
            )
            for i, x in enumerate(images)
        ]
    )


def of_rank(table, rank: int):
    """The charge so far, approximated by `rank` courses over time; numbers that this takes."""
    rows = table.flatten(1).double()
    left, values, right = torch.linalg.svd(rows.cumsum(0), full_matrices=False)
    charge = (left[:, :rank] * values[:rank]) @ right[:rank]
    rows = torch.cat([charge[:1], charge[1:] - charge[:-1]]).to(table)
    return rows.view_as(table), rank * sum(charge.shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--images", type=int, default=300, help="held-out images (default 300)")
    parser.add_argument("--T", type=int, default=64, help="time steps (default 64)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    network, build, bundle = load_run(arguments.run)
    images, _ = gather(bundle, "val", arguments.images)
    fit = chosen(bundle, 256)
    steps = [t for t in (16, 32, 64, 128) if t <= arguments.T]
    limit = clipped(network)
    rows: list[list[str]] = []

    def reference(x):
        with torch.no_grad():
            return torch.cat([limit(part) for part in x.split(100)])

    def calibrated(x, seed=0, room=5.0):
        calibration.fitted_thresholds = functools.partial(fitted_thresholds, room=room)
        return convert_model(
            network,
            calibration=[x],
            calibrate="bias",
            calibration_steps=arguments.T,
            seed=seed,
        )

    def row(name, snn, x, target):
        errors = second_half_errors(snn, x, target, steps)
        rows.append([name, *(f"{e:.3f}" for e in errors)])
        print(rows[-1], flush=True)

    target = reference(images)
    plain, usual = convert_model(network), calibrated(fit[:128])
    row("plain", plain, images, target)
    row("128 images", usual, images, target)
    for name, x, seed in (
        ("50 images", fit[:50], 0),
        ("50 other images", fit[128:178], 0),
        ("the first 50, another seed of the masks", fit[:50], 7),
        ("25 images", fit[:25], 0),
        ("25 other images", fit[200:225], 0),
    ):
        row(name, calibrated(x, seed), images, target)
    for name, x in (("25 other images", fit[200:225]), ("128 images", fit[:128])):
        row(f"{name}, no room above them", calibrated(x, room=0.0), images, target)
    turned = moved(images)
    target_turned = reference(turned)
    row("evaluated on moved images: plain", plain, turned, target_turned)
    row("evaluated on moved images: 128 images", usual, turned, target_turned)
    tables = {
        name: site.neuron.step_bias.clone()
        for name, site in usual.sites.items()
        if site.neuron.step_bias is not None
    }
    for rank in (1, 4, 16) if tables else ():
        size = 0
        for name, table in tables.items():
            usual.sites[name].neuron.step_bias, numbers = of_rank(table, rank)
            size += numbers
        whole = sum(t.numel() for t in tables.values())
        row(
            f"128 images, table of rank {rank} ({size:,} of {whole:,} numbers)",
            usual,
            images,
            target,
        )
    fitting, simulating = [], []
    for _ in range(3):
        start = time.process_time()
        calibrated(fit[:50])
        fitting.append(time.process_time() - start)
        start = time.process_time()
        plain(fit[:50], timesteps=arguments.T)
        simulating.append(time.process_time() - start)
    a, b = statistics.median(fitting), statistics.median(simulating)
    head = ["calibration", *(f"T = {t}" for t in steps)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])
    date = datetime.date.today().isoformat()
    text = f"""# Robustness of the calibration of IF neurons: {build["model"]}, {date}

Relative error of the logits against the clipped network, second-half readout, {len(images)} held-out
images of {bundle.name}; {{0, s}} spikes, mask {build["mask"]}, tables for {arguments.T} steps. PyTorch
{torch.__version__}, {platform.machine()}, {torch.get_num_threads()} thread(s), float32.

{table}

Converting with a bias fitted to 50 images for T = {arguments.T}: {a:.1f} s of processor time;
simulating these images once: {b:.1f} s; ratio {a / b:.2f} (medians of 3).
"""
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / f"if_calibration_robustness-{build['model']}-{date}.md"
    path.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
