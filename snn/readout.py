"""From the network's output in each step to its estimate of the logits after each step."""

import torch
from torch import Tensor

from ..neurons.clock import for_sums

READOUTS = ("mean", "second-half")


def check_readout(readout: str, coding: str) -> str:
    """The name, or ValueError for an unknown one or one that the coding does not have."""
    if readout not in READOUTS:
        raise ValueError(f"readout {readout!r} is unknown; known: {', '.join(READOUTS)}")
    if readout == "second-half" and coding != "rate":
        raise ValueError(
            "readout 'second-half' is for rate coding (neuron 'if'); neurons that send "
            "signed spikes are read by their running sum: use readout='mean'"
        )
    return readout


class Readout:
    """Collects chunks [K * B, C] into [T, B, C].

    Args:
        coding: "rate" (mean over steps) or "cumulative" (sum over steps).
        running: the chunks are running values already, not single steps.
        readout: "mean": after step t the mean of steps 1..t; "second-half": of steps t/2+1..t.
    """

    def __init__(self, coding: str, running: bool, readout: str):
        self.coding, self.running = coding, running
        self.readout = check_readout(readout, coding)
        self.sums: list[Tensor] = []  # [B, C] sum of the first t outputs, t = 1, 2, ...

    def add(self, chunk: Tensor, steps: int) -> None:
        for x in for_sums(chunk).view(steps, chunk.shape[0] // steps, *chunk.shape[1:]):
            t = len(self.sums) + 1
            if self.running:
                total = x * t if self.coding == "rate" else x
            else:
                total = x if not self.sums else self.sums[-1] + x
            self.sums.append(total)

    def result(self) -> Tensor:
        """[T, B, C]"""
        sums = torch.stack(self.sums)
        if self.coding == "cumulative":
            return sums
        shape = (-1,) + (1,) * (sums.dim() - 1)
        t = torch.arange(1, len(sums) + 1, device=sums.device)
        if self.readout == "mean":
            return sums / t.view(shape)
        half = t // 2
        before = torch.cat((torch.zeros_like(sums[:1]), sums))[half]
        return (sums - before) / (t - half).view(shape)
