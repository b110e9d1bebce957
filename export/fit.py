"""Which chips would hold an exported network, and the first layer that does not fit.

A chip is a data file in `chips/`. On one with a layer per core (Speck) every population of neurons takes
a core with the kernels in front of it; on the others a population is split over as many cores as its
neurons and its weights need. The report says what the memories hold, not that a tool flow exists.
"""

import dataclasses
import json
import math
from pathlib import Path

from .layers import Exportable, Neurons, Pool, Readout, Weighted

CHIPS = Path(__file__).parent / "chips"


@dataclasses.dataclass
class Fit:
    """What a chip says to a network.

    Attributes:
        chip: name.
        fits: whether all of it does.
        cores, available: that it needs, and that there are.
        first: name of the first layer that does not fit; None.
        why: what is missing there, with both numbers.
    """

    chip: str
    fits: bool
    cores: int
    available: int
    first: str | None = None
    why: str | None = None


@dataclasses.dataclass
class Population:
    """Neurons (or the output) with the weights in front of them."""

    name: str
    shape: tuple[int, ...]
    kernels: list[Weighted]
    pools: list[Pool]
    readers: int

    @property
    def neurons(self) -> int:
        return math.prod(self.shape)

    @property
    def weights(self) -> int:
        return sum(layer.weight.numel() for layer in self.kernels)


def chips() -> list[dict]:
    """The data files."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(CHIPS.glob("*.json"))]


def fits(network: Exportable) -> list[Fit]:
    """What every chip says to a network."""
    populations = _populations(network)
    return [
        (_one_core_each if chip["layer_per_core"] else _split)(chip, populations)
        for chip in chips()
    ]


def lines(found: list[dict]) -> list[str]:
    """The report in words."""
    words = []
    for one in found:
        cores = f"{one['cores']} of {one['available']} cores"
        end = f"fits on {cores}" if one["fits"] else f"does not fit: {one['first']}: {one['why']}"
        words.append(f"{one['chip']}: {end}")
    return words


def _populations(network: Exportable) -> list[Population]:
    found = []
    for layer in network.layers.values():
        if isinstance(layer, (Neurons, Readout)):
            kernels, pools = _in_front(network, layer)
            readers = sum(isinstance(n, Weighted) for n in _behind(network, layer.name))
            found.append(Population(layer.name, layer.shape, kernels, pools, readers))
    return found


def _in_front(network: Exportable, layer) -> tuple[list[Weighted], list[Pool]]:
    """Weights and pools between a population and those that it reads."""
    kernels, pools, front = [], [], list(layer.inputs)
    while front:
        given = network.layers[front.pop()]
        if isinstance(given, Neurons):
            continue
        (
            kernels if isinstance(given, Weighted) else pools if isinstance(given, Pool) else []
        ).append(given)
        front += given.inputs
    return kernels, pools


def _behind(network: Exportable, name: str) -> list:
    """The weights that read a population, through pools and flattening."""
    found = []
    for reader in network.readers(name):
        found += [reader] if isinstance(reader, Weighted) else _behind(network, reader.name)
    return found


def _power(number: int) -> int:
    return 2 ** max(0, math.ceil(math.log2(number)))


def _kernel_words(layer: Weighted) -> int:
    """c_in * 2^(ceil log2 (kx ky) + ceil log2 c_out), as Speck lays a kernel out."""
    sides = layer.weight.shape[2:] or (1, 1)
    return layer.weight.shape[1] * _power(math.prod(sides)) * _power(layer.channels)


def _neuron_words(shape: tuple[int, ...]) -> int:
    sides = shape[1:] or (1, 1)
    return shape[0] * _power(sides[0]) * _power(sides[1])


def _one_core_each(chip: dict, populations: list[Population]) -> Fit:
    available = len(chip["kernel_words"])
    free = sorted(zip(chip["kernel_words"], chip["neuron_words"], strict=True))
    found = Fit(chip["name"], True, len(populations), available)
    needs = []
    for population in populations:
        why = _broken_rule(chip, population)
        kernel = sum(_kernel_words(layer) for layer in population.kernels)
        neuron = _neuron_words(population.shape)
        holding = [(k, n) for k, n in free if k >= kernel and n >= neuron]
        if not why and kernel > max(k for k, _ in free):
            why = f"its kernel takes {kernel} words, the largest core has {max(k for k, _ in free)}"
        elif not why and neuron > max(n for _, n in free):
            why = f"its neurons take {neuron} words, the largest core has {max(n for _, n in free)}"
        elif not why and not holding:
            why = f"no core has {kernel} kernel words beside {neuron} neuron words"
        if why:
            return dataclasses.replace(found, fits=False, first=population.name, why=why)
        needs.append((kernel, neuron, population.name))
    if len(populations) > available:
        why = f"it is layer {available + 1} of {len(populations)}, and there are {available} cores"
        return dataclasses.replace(found, fits=False, first=populations[available].name, why=why)
    left_out = _left_out(needs, free)
    if left_out:
        why = "the cores that would hold it are taken by other layers"
        return dataclasses.replace(found, fits=False, first=left_out, why=why)
    return found


def _left_out(needs: list[tuple], free: list[tuple]) -> str | None:
    """A layer that gets no core, if the layers cannot be given one each (bipartite matching)."""
    holder: dict[int, int] = {}

    def place(need: int, seen: set[int]) -> bool:
        for core, (kernel, neuron) in enumerate(free):
            fits_here = kernel >= needs[need][0] and neuron >= needs[need][1]
            if fits_here and core not in seen:
                seen.add(core)
                if core not in holder or place(holder[core], seen):
                    holder[core] = need
                    return True
        return False

    return next((needs[i][2] for i in range(len(needs)) if not place(i, set())), None)


def _broken_rule(chip: dict, population: Population) -> str | None:
    """What the shape of a layer breaks, whatever the memory."""
    for layer in population.kernels:
        sides = tuple(layer.weight.shape[2:]) or (1, 1)
        if sides[0] != sides[1] or sides[0] > chip["kernel_side"]:
            return f"its kernel is {sides[0]} x {sides[1]}, square ones up to {chip['kernel_side']} fit"
        if max(layer.channels, layer.weight.shape[1]) > chip["channels"]:
            wide = max(layer.channels, layer.weight.shape[1])
            return f"it has {wide} channels, up to {chip['channels']} fit"
        if any(side not in chip["strides"] for side in layer.stride):
            return f"its stride is {layer.stride}, strides of {chip['strides']} fit"
        if layer.channels > chip["biases"]:
            return f"it has {layer.channels} biases, up to {chip['biases']} fit"
    for pool in population.pools:
        if pool.kernel[0] not in chip["pools"] or pool.kernel != pool.stride or pool.average:
            return f"its pool is {pool.kernel}, sum pools of {chip['pools']} fit"
    if population.readers > chip["readers"]:
        return f"{population.readers} layers read it, up to {chip['readers']} can"
    if len(population.kernels) > 2:
        return f"{len(population.kernels)} kernels feed it, up to 2 can"
    return None


def _split(chip: dict, populations: list[Population]) -> Fit:
    found = Fit(chip["name"], True, 0, chip["cores"])
    state = chip["state_bits"] // 8
    for population in populations:
        weights = population.weights * chip["weight_bits"] // 8
        left = chip["memory_per_core"] - state
        convolved = any(layer.weight.dim() == 4 for layer in population.kernels)
        needs = math.ceil(population.neurons / chip["neurons_per_core"])
        if (
            convolved
        ):  # every core that holds some of its neurons holds the kernels of some channels
            needs = max(needs, math.ceil((weights + population.neurons * state) / left))
        else:
            needs = max(needs, math.ceil(weights / left))
        found.cores += needs
        if found.cores > chip["cores"] and found.fits:
            found.fits, found.first = False, population.name
            found.why = (
                f"with it {found.cores} cores are needed, there are {chip['cores']} "
                f"({population.neurons} neurons, {population.weights} weights)"
            )
    return found
