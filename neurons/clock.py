"""The time and the place of the chunk that is being simulated, shared by all stateful units."""

import dataclasses

import torch


@dataclasses.dataclass
class Clock:
    """Where a chunk of a simulation stands.

    Attributes:
        start: steps that were simulated before this chunk (0 in the first one).
        steps: steps K in this chunk; tensors are [K * B, ...], time major.
        batch: images B.
        first_index: number of the first image, which names its random masks.
    """

    start: int = 0
    steps: int = 1
    batch: int = 1
    first_index: int = 0

    def split(self, x):
        """[K * B * g, ...] -> [K, B * g, ...], a view where possible."""
        if x.shape[0] % (self.steps * self.batch):
            raise ValueError(
                f"a tensor of shape {tuple(x.shape)} does not start with the batch axis "
                f"({self.steps} steps x {self.batch} images): a unit with state needs the batch "
                "first; move the permute after the activation in the network's source"
            )
        return x.reshape(self.steps, x.shape[0] // self.steps, *x.shape[1:])


def for_sums(x: torch.Tensor) -> torch.Tensor:
    """x in the type that states and sums over time have: its own, but at least float32.

    bfloat16 has 8 bits: 256 spikes and one more are 256.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Timed:
    """Mixin of modules that read the clock; `SpikingNetwork` hands them its own."""

    clock: Clock

    def reset(self) -> None:
        """Forget all state; called before every simulation."""
