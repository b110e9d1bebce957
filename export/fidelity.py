"""Read an exported file back with the target's own importer, run it, and compare spike by spike."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..snn import SpikingNetwork
from .layers import Exportable
from .simulation import Obedience, obedience

READERS = Path(__file__).parent / "readers"
BATCH = 10  # images that both sides run at once
FAITHFUL, APPROXIMATE, UNSUPPORTED, NOT_CHECKED = (
    "faithful",
    "approximate",
    "unsupported",
    "not checked",
)


class MissingPackageError(RuntimeError):
    """The other side cannot run here."""


class OtherSide:
    """A process that has read a file with a target's importer.

    Args:
        target: `targets.Target`.
        path: the file.
        python: an interpreter that has the target's packages (default: this one).
        device: that it runs on.
    """

    def __init__(self, target, path: Path, python: str | None = None, device="cpu"):
        self.target, self._folder = target, tempfile.TemporaryDirectory()
        reader = READERS / f"{target.reader}.py"
        command = [python or sys.executable, str(READERS / "serve.py"), str(reader), str(path)]
        self._process = subprocess.Popen(  # noqa: S603
            [*command, str(torch.get_num_threads()), str(device)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:  # a stranger's importer may hang
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()

    def run(self, images: Tensor, timesteps: int, keep_meaning: bool = True) -> dict:
        """What the other side gives: arrays `outputs`, `spikes/NODE` (packed), `several/NODE`.

        Raises:
            MissingPackageError: a package is not there.
            RuntimeError: what the importer said.
        """
        folder = Path(self._folder.name)
        np.save(folder / "images.npy", images.float().cpu().numpy())
        request = {
            "images": str(folder / "images.npy"),
            "timesteps": timesteps,
            "keep_meaning": keep_meaning,
            "into": str(folder / "answer.npz"),
        }
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        error = json.loads(line).get("error") if line else "its process died"
        if error and error.startswith(("ImportError", "ModuleNotFoundError")):
            raise MissingPackageError(error)
        if error:
            raise RuntimeError(error)
        with np.load(folder / "answer.npz") as found:
            return dict(found)


@dataclasses.dataclass
class Fidelity:
    """What a comparison has found; percentages of images, errors over the largest logit.

    Attributes:
        images, timesteps: that were compared.
        agreement: per cent of images with the spiking network's class after T steps.
        readout_error: norm of the difference of the readouts at T over the norm of the spiking
            network's.
        same_images: images of which every spike is the spiking network's.
        same_readout_error: the largest relative error of a readout among those.
        top1, top1_snn: accuracy of both, where labels were given.
        differing: {site: spikes that differ from the spiking network's}.
        spikes: that were compared, one a neuron, image and step.
        several: steps in which a neuron sent more than one spike.
        rule: whether every spike follows the rule of the neurons (`simulation.obedience`).
    """

    images: int = 0
    timesteps: int = 0
    agreement: float = 0.0
    readout_error: float = 0.0
    same_images: int = 0
    same_readout_error: float = 0.0
    top1: float | None = None
    top1_snn: float | None = None
    differing: dict[str, int] = dataclasses.field(default_factory=dict)
    spikes: int = 0
    several: int = 0
    rule: Obedience = dataclasses.field(default_factory=Obedience)


class Comparison:
    """Compares a spiking network with what another simulator makes of its file.

    Args:
        snn: the spiking network that was exported.
        network: its layers, with the numbers of the file.
        timesteps: T.
    """

    def __init__(self, snn: SpikingNetwork, network: Exportable, timesteps: int):
        self.snn, self.network, self.steps = snn, network, timesteps

    def run(
        self, other: OtherSide, images: Tensor, labels=None, keep_meaning=True, progress=None
    ) -> Fidelity:
        """Both sides on all images, in batches.

        Args:
            labels: [N], or None.
            keep_meaning: with the settings of the reader, and hold every spike against the rule;
                otherwise as the target imports by itself.
            progress: wraps the list of batches.

        Raises:
            MissingPackageError, RuntimeError: see `OtherSide.run`.
        """
        found, sums = Fidelity(timesteps=self.steps), dict.fromkeys(("wrong", "norm"), 0.0)
        right = {"same": 0, "theirs": 0, "ours": 0}
        starts = range(0, len(images), BATCH)
        for first in progress(starts) if progress else starts:
            batch = images[first : first + BATCH]
            answer = other.run(batch, self.steps, keep_meaning)
            ours, spikes = recording(self.snn, batch, self.steps)
            outputs = torch.from_numpy(answer["outputs"]).flatten(2).to(batch.device)
            theirs = self.read(outputs)
            same = self.compare_spikes(found, batch, spikes, outputs, answer, keep_meaning)
            found.same_images += int(same.sum())
            if same.any():
                off = (theirs - ours.double()).norm(dim=-1) / ours.double().norm(dim=-1)
                found.same_readout_error = max(found.same_readout_error, float(off[same].max()))
            found.images += len(batch)
            right["same"] += int((theirs.argmax(-1) == ours.argmax(-1)).sum())
            sums["wrong"] += float((theirs - ours.double()).square().sum())
            sums["norm"] += float(ours.double().square().sum())
            if labels is not None:
                some = labels[first : first + BATCH].to(batch.device)
                right["theirs"] += int((theirs.argmax(-1) == some).sum())
                right["ours"] += int((ours.argmax(-1) == some).sum())
        found.agreement = 100 * right["same"] / found.images
        found.readout_error = (sums["wrong"] / max(sums["norm"], 1e-30)) ** 0.5
        if labels is not None:
            found.top1 = 100 * right["theirs"] / found.images
            found.top1_snn = 100 * right["ours"] / found.images
        return found

    def compare_spikes(
        self, found: Fidelity, images, spikes: dict, outputs: Tensor, answer: dict, judge: bool
    ) -> Tensor:
        """Count the spikes that differ, and hold those of a batch against the rule where some do.

        Returns:
            For each image whether all its spikes are the same, [B].
        """
        sent, same = {}, torch.ones(len(images), dtype=torch.bool, device=images.device)
        for layer in self.network.neurons:
            shape = (self.steps, len(images), *layer.shape)
            sent[layer.site] = _unpacked(answer[f"spikes/{layer.name}"], shape).to(images.device)
            differs = spikes[layer.site].bool().reshape(shape) != sent[layer.site]
            if count := int(differs.sum()):
                found.differing[layer.site] = found.differing.get(layer.site, 0) + count
                same &= ~differs.flatten(2).any(2).any(0)
            found.several += int(answer[f"several/{layer.name}"])
            found.spikes += differs.numel()
        if judge and not (same.all() and found.rule.spikes):  # equal spikes follow the same rule
            shaped = outputs.reshape(*outputs.shape[:2], *self.network.layers["output"].shape)
            found.rule.add(obedience(self.network, images, sent, shaped))
        return same

    def read(self, outputs: Tensor) -> Tensor:
        """The readout at T of outputs [T, B, classes]."""
        sums = outputs.double().cumsum(0) / self.network.layers["output"].scale
        return self.snn.coding.read(sums, self.network.readout)[-1]


def recording(snn: SpikingNetwork, images: Tensor, timesteps: int) -> tuple[Tensor, dict]:
    """The readout at T [B, classes], and {site: spikes [T, B, ...]}."""
    with snn.record() as spikes:
        readout = snn(images, timesteps=timesteps)
    return readout[-1], dict(spikes.items())


def _unpacked(packed: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    size = int(np.prod(shape))
    return torch.from_numpy(np.unpackbits(packed, count=size).astype(bool)).view(shape)
