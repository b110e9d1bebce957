"""Corrections that need a run of T steps first, against the step-wise bias, which needs none.

    python benchmarks/if_two_runs.py RUN --images 200

Both look at the membranes after a first run of T steps on the same images:

* residual membrane (SRP, Z. Hao et al., AAAI 2023): a neuron that ended below 0 sent too much, most
  likely towards a value of 0, and is silent in a second run;
* offset spikes (COS, Z. Hao et al., ICLR 2023): a neuron that ended at or above its threshold starts
  the second run one threshold higher, one that ended below 0 one threshold lower; once or twice.

Writes if_two_runs-NAME-DATE.md.
"""

import argparse
import datetime
import platform
from pathlib import Path

import torch
from if_calibration import chosen, gather, load_run

from spikeswap.convert import clipped, convert_model
from spikeswap.neurons import IF
from spikeswap.neurons.qcfs import broadcast_threshold

STEPS = (16, 32, 64)
WAYS = ("one run", "residual membrane", "offset spikes", "offset spikes, twice")


class CorrectedIF(IF):
    """IF that starts some thresholds higher or lower, or is silent in places."""

    offset = silent = None

    def start(self, x):
        super().start(x)
        if self.offset is None:
            return
        charge = self.offset * self.state["height"]
        if self.running_input:  # the membrane is made anew from the sums in each step
            self.state["sum"].sub_(charge)
        else:
            self.state["v"].add_(charge)

    def step(self, x, t, sent):
        super().step(x, t, sent)
        if self.silent is not None:
            sent.mul_(~self.silent)


def neurons_of(snn) -> dict[str, IF]:
    return {name: site.neuron for name, site in snn.sites.items()}


def run(snn, images, first: int, T: int):
    """Readouts of both kinds after T steps, and the membranes there."""
    last = {}

    def watch(node, module, args, kwargs, output, clock):
        if isinstance(module, IF):
            last[node.target] = module.membrane().clone()

    with snn.observe(watch):
        out = snn(images, timesteps=T, first_index=first, readout="mean")
    return {"mean": out[T - 1], "second-half": 2 * out[T - 1] - out[T // 2 - 1]}, last


def ways(snn, images, first: int, T: int) -> dict[str, dict]:
    """{way: {readout: logits}} for one batch; the neurons are left without a correction."""
    neurons = neurons_of(snn)
    found = {}
    found["one run"], membranes = run(snn, images, first, T)
    for name, neuron in neurons.items():
        neuron.silent = membranes[name] < 0
    found["residual membrane"], _ = run(snn, images, first, T)
    for name, neuron in neurons.items():
        neuron.silent, neuron.offset = None, torch.zeros_like(membranes[name])
    for way in ("offset spikes", "offset spikes, twice"):
        for name, neuron in neurons.items():
            v = membranes[name]
            height = broadcast_threshold(neuron.threshold, neuron.axis, v.dim())
            neuron.offset += (v >= height).to(v) - (v < 0).to(v)
        found[way], membranes = run(snn, images, first, T)
    for neuron in neurons.values():
        neuron.offset = None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--images", type=int, default=200, help="held-out images (default 200)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    network, build, bundle = load_run(arguments.run)
    images, _ = gather(bundle, "val", arguments.images)
    fit = chosen(bundle, 128)
    clip = clipped(network)
    with torch.no_grad():
        reference = torch.cat([clip(x) for x in images.split(100)])
    date = datetime.date.today().isoformat()
    lines = [
        f"# Corrections that need a first run, {date}",
        "",
        f"{build['model']} ({arguments.run.name}), mask {build['mask']}, {len(images)} held-out images; "
        "relative error of the logits against the clipped network, mean of all steps / second half. "
        "Every way but the first simulates T steps twice, the last three times. PyTorch "
        f"{torch.__version__}, {platform.machine()}, {torch.get_num_threads()} thread(s), float32.",
        "",
        "| conversion | way | " + " | ".join(f"T={t}" for t in STEPS) + " |",
        "| --- | --- |" + " --- |" * len(STEPS),
    ]
    for name, method in (("plain", None), ("thresholds and bias", "bias")):
        extra = {"calibrate": method, "calibration_steps": max(STEPS)} if method else {}
        snn = convert_model(network, calibration=[fit] if method else None, **extra)
        for neuron in neurons_of(snn).values():
            neuron.__class__ = CorrectedIF  # same state, two more attributes
        cells = {way: [] for way in WAYS}
        for T in STEPS:
            parts = [ways(snn, x, 100 * i, T) for i, x in enumerate(images.split(100))]
            for way, column in cells.items():
                errors = []
                for readout in ("mean", "second-half"):
                    logits = torch.cat([part[way][readout] for part in parts])
                    errors.append(((logits - reference).norm() / reference.norm()).item())
                column.append(" / ".join(f"{e:.3f}" for e in errors))
        lines += [f"| {name} | {way} | " + " | ".join(c) + " |" for way, c in cells.items()]
        print("\n".join(lines[-len(WAYS) :]), flush=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / f"if_two_runs-{build['model']}-{date}.md"
    path.write_text("\n".join(lines) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
