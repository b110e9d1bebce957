"""The measurements of tools/bench.py."""

import json
import platform
import statistics
import time
import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..configs import get_config
from ..convert import convert_model
from ..support.versions import versions
from ..train import build_network, seed_everything
from . import run_on_disk, setting_up
from .cli import say


def measure(arguments, device) -> dict:
    """Median seconds of the ANN's forward and of the SNN at each T, taken in turns, and memory."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    seed_everything(arguments.seed or 0)
    name, network, images = _network(arguments)
    network, images = network.eval().to(device), images.to(device)
    snn = convert_model(
        network,
        neuron=arguments.neuron,
        attention=arguments.attention,
        mask=arguments.mask,
        seed=arguments.seed or 0,
    ).to(device)
    calls = {"ann": lambda: network(images)}
    for steps in arguments.timesteps:
        calls[steps] = lambda steps=steps: snn(images, timesteps=steps, chunk=arguments.chunk)
    seconds = {key: [] for key in calls}
    with torch.no_grad():
        for call in calls.values():  # warm up
            call()
        for _ in range(arguments.repeats):
            for key, call in calls.items():
                seconds[key].append(_seconds(call, device))
        memory = {key: _peak_bytes(call, device) for key, call in calls.items()}
    ann = statistics.median(seconds["ann"])
    return {
        "schema": 1,
        "model": name,
        "neuron": arguments.neuron,
        "attention": arguments.attention,
        "mask": snn.info.mask,
        "batch_size": len(images),
        "image": list(images.shape[1:]),
        "chunk": arguments.chunk,
        "repeats": arguments.repeats,
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "ann": {"seconds": ann, "peak_bytes": memory["ann"]},
        "snn": [_row(steps, seconds[steps], ann, memory[steps]) for steps in arguments.timesteps],
    }


def _row(steps: int, seconds: list[float], ann: float, memory: int | None) -> dict:
    median = statistics.median(seconds)
    return {
        "timesteps": steps,
        "seconds": median,
        "seconds_per_step": median / steps,
        "step_to_ann": median / steps / ann,
        "peak_bytes": memory,
    }


def _network(arguments) -> tuple:
    """(name, network, images [B, C, H, W])."""
    if arguments.run is not None:
        run = run_on_disk.open_run(arguments.run)
        if run.kind != "qcfs":
            raise ValueError(
                f"run {run.folder} has no activations to convert; bench a run of "
                "tools/train_qcfs.py"
            )
        bundle, name, network = run.data(), run.folder.name, run.network()
    else:
        cfg = get_config(arguments.cfg)
        bundle = setting_up.open_data(cfg)
        name, network = cfg.MODEL.NAME, build_network(setting_up.describe_build(cfg, bundle))
        say(f"{name} with random weights, images of {bundle.name}")
    if arguments.batch_size > len(bundle.val):
        raise ValueError(
            f"batch size {arguments.batch_size} is more than the {len(bundle.val)} "
            f"images of {bundle.name}; give a smaller --batch-size"
        )
    images = torch.stack([bundle.val[index][0] for index in range(arguments.batch_size)])
    return name, network, images


def _seconds(call, device) -> float:
    _wait(device)
    started = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - started


def _wait(device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_bytes(call, device) -> int:
    """Largest amount of tensor memory alive at once during a call, beyond what was there before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with LiveTensors() as live:
        call()
    return live.peak


class LiveTensors(TorchDispatchMode):
    """Adds up the bytes of all storages that operations make, until they die.

    What an operation allocates and frees within itself is not seen.
    """

    def __init__(self):
        super().__init__()
        self.alive = self.peak = 0
        self.known = weakref.WeakSet()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        before = {_storage(t) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._add(_storage(tensor), before)
        return out

    def _add(self, storage, before: set) -> None:
        if storage in self.known or storage in before:
            return
        self.known.add(storage)
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.alive -= size


def _storage(tensor):
    return tensor.untyped_storage()


def _device_name(device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()})"


def rows(result: dict) -> list[list[str]]:
    """The table."""

    def mebibytes(number):
        return "-" if number is None else f"{number / 2**20:.1f}"

    table = [
        ["", "T", "ms", "ms per step", "step / ANN", "peak MiB"],
        [
            "ANN forward",
            "-",
            f"{1e3 * result['ann']['seconds']:.1f}",
            "-",
            "-",
            mebibytes(result["ann"]["peak_bytes"]),
        ],
    ]
    for row in result["snn"]:
        table.append(
            [
                f"SNN {result['neuron']}",
                str(row["timesteps"]),
                f"{1e3 * row['seconds']:.1f}",
                f"{1e3 * row['seconds_per_step']:.2f}",
                f"{row['step_to_ann']:.2f}",
                mebibytes(row["peak_bytes"]),
            ]
        )
    return table


def as_json(result: dict) -> str:
    """The numbers as JSON."""
    return json.dumps(result, indent=1, allow_nan=False) + "\n"
