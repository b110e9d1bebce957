"""From the network's output in each step to its estimate of the logits after each step."""

import torch
from torch import Tensor

from ..neurons import Coding
from ..neurons.clock import for_sums


class Readout:
    """Collects chunks [K * B, C] into [T, B, C].

    Args:
        coding: of the network's neurons.
        running: the chunks are running values already, not single steps.
        readout: name of a readout of that coding.
    """

    def __init__(self, coding: Coding, running: bool, readout: str):
        self.coding, self.running = coding, running
        self.readout = coding.check_readout(readout)
        self.sums: list[Tensor] = []  # [B, C] sum of the first t outputs, t = 1, 2, ...

    def add(self, chunk: Tensor, steps: int) -> None:
        for x in for_sums(chunk).view(steps, chunk.shape[0] // steps, *chunk.shape[1:]):
            if self.running:
                x = self.coding.total(x, len(self.sums) + 1)
            elif self.sums:
                x = self.sums[-1] + x
            self.sums.append(x)

    def result(self) -> Tensor:
        """[T, B, C]"""
        return self.coding.read(torch.stack(self.sums), self.readout)
