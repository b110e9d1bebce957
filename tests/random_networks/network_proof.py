"""Converts random networks with every neuron and compares them with what they tend to.

    python tests/random_networks/network_proof.py --first 0 --count 20000

prints every seed that fails, with its network as text, and a summary.
"""

import argparse
import collections
import random
import tempfile
import time
import warnings

import network_generator as generator
import torch
from network_lines import STEPS
from torch import fx

import spikeswap
from spikeswap.convert import UnconvertibleError, convert_model, insert_qcfs, reference_network
from spikeswap.graph import prepare
from spikeswap.neurons import NEURONS
from spikeswap.ops import operation_of

EXACT = 1e-9  # relative, in float64


class Failure(AssertionError):
    """A conversion that is not what it claims to be."""


@torch.no_grad()
def prove(model: torch.nn.Module, seed: int, sites: str = "relu") -> str:
    """Convert a network of float64; "exact", "refused: why", "no number" or "a tie decides".

    `multi` and `stbif` must be the QCFS network when all neurons have reached their level, for the
    same images in a batch and alone, and after a trip to the disk; `if` is proven by `convert_model`
    itself, step by step, as all are.

    Args:
        sites: "all": sites in front of every layer with weights and every product; then `if`, which
            sends nothing negative, is left out.

    Raises:
        Failure: wrong numbers, or an error that is no refusal.
    """
    dice = random.Random(seed)
    images = torch.randn(3, *generator.SIZE, dtype=torch.double)
    levels, threshold = dice.choice((1, 2, 3, 4, 8)), dice.choice((0.5, 1.0, 2.0))
    mask = dice.choice((0.0, 0.0, 0.0, 0.4))
    how = {"leaf_modules": generator.LEAVES, "mask": mask, "sites": sites}
    signed = [name for name, neuron in NEURONS.items() if neuron.stands_for_signed]
    try:
        qcfs = insert_qcfs(model, levels, threshold, example_inputs=images, **how).eval()
        prepared = prepare(qcfs, example_inputs=images)
        neurons = signed if sites == "all" else NEURONS
        networks = [convert_model(prepared, neuron=neuron, seed=seed) for neuron in neurons]
    except UnconvertibleError as error:
        if "fault of the conversion" not in str(error):
            return f"refused: {error.offences[0].operation}, {error.offences[0].remedy}"
        if tie_decides(qcfs, images):
            return "a tie decides"
        raise Failure(str(error)) from error
    exact = [network for network in networks if not network.coding.clips]
    expected = reference_network(exact[0], prepared)(images)
    if not bool(expected.isfinite().all()):
        return "no number"
    for snn in exact:
        error = distance(snn, images, levels, expected)
        if error > EXACT and tie_decides(qcfs, images):
            return "a tie decides"
        if error > EXACT:
            raise Failure(f"{snn.info.neuron}: off by {error:.2g}")
    if not any(isinstance(module, tuple(generator.LEAVES)) for module in model.modules()):
        take_to_the_disk(dice.choice(networks), images)
    return "exact"


def distance(snn, images: torch.Tensor, levels: int, expected: torch.Tensor) -> float:
    """From a network when every neuron has had time to reach its level; images alone, too."""
    ways = 2 if any(site.neuron.signed for site in snn.sites.values()) else 1
    steps = ways * levels * (len(snn.sites) + 1) + 2
    together = snn(images, timesteps=steps)[-1]
    alone = snn(images[1:], timesteps=steps, first_index=1, chunk=3)[-1]
    return max(difference(together, expected), difference(alone, expected[1:]))


def take_to_the_disk(snn, images: torch.Tensor) -> None:
    with tempfile.TemporaryDirectory() as folder:
        snn.save(folder)
        loaded = spikeswap.load(folder)
    if not torch.equal(*(network(images, timesteps=4, chunk=2) for network in (snn, loaded))):
        raise Failure(f"{snn.info.neuron}: another network after a trip to the disk")


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    error = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
    return error if error == error else float("inf")


def tie_decides(qcfs: fx.GraphModule, images: torch.Tensor) -> bool:
    """Whether rounding before an operation with steps changes what a QCFS network gives."""

    class Jittered(fx.Interpreter):
        def run_node(self, node):
            if node.op.startswith("call") and operation_of(qcfs, node).name in STEPS:
                for source in node.all_input_nodes:
                    value = self.env[source]
                    if isinstance(value, torch.Tensor) and value.is_floating_point():
                        noise = torch.rand(value.shape, generator=jitter).to(value) - 0.5
                        self.env[source] = value + 1e-12 * (1 + value.abs()) * noise
            return super().run_node(node)

    jitter = torch.Generator().manual_seed(0)
    outputs = [Jittered(qcfs, garbage_collect_values=False).run(images) for _ in range(4)]
    return any(difference(output, qcfs(images)) > EXACT for output in outputs)


def attempt(seed: int, sites: str = "relu") -> str:
    """The outcome of one seed; failures are told with the network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = generator.draw(seed)
        try:
            torch.manual_seed(seed)
            return prove(program.build(), seed, sites)
        except Exception as error:  # any error that is no refusal is a failure of this seed
            reason = f"{type(error).__name__}: {error}"
            raise Failure(f"seed {seed}, sites {sites!r}: {reason}\n{program}") from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--sites", choices=("relu", "all"), default="relu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    outcomes = collections.defaultdict(list)
    began = time.perf_counter()
    for seed in range(arguments.first, arguments.first + arguments.count):
        try:
            outcomes[attempt(seed, arguments.sites)].append(seed)
        except Failure as failure:
            outcomes["FAILED"].append(seed)
            print(failure, flush=True)
    print(f"{arguments.count} seeds, {time.perf_counter() - began:.0f} s")
    for outcome, seeds in sorted(outcomes.items(), key=lambda item: -len(item[1])):
        print(f"{len(seeds):6d}  {outcome} (seeds {', '.join(map(str, seeds[:4]))} ...)")


if __name__ == "__main__":
    main()
