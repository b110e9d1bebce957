"""Products of two running sums of spikes, brought up to date by the spikes of each step.

For sums Q, K of the spikes q, k so far: S(t) = S(t-1) + q(t) K(t-1) + Q(t) k(t) = Q(t) K(t). A spike
of q adds what it meets of K to the outputs that it reaches, a spike of k what it meets of Q; nothing
is multiplied. (A running mean is a sum over t, so the product of two means is S / t^2.)

The simulation multiplies the running values, which gives the same and is faster on a processor with
matrix units; this module is the definition that counts and tests go by.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .clock import Timed, for_sums


class IncrementalProduct(Timed, nn.Module):
    """Streams q, k [K * B, ...] to the product of their running sums after each step.

    Args:
        product: (a, b) -> linear in each (`torch.matmul`, `torch.mul`); the batch is the first axis of
            the result.
    """

    def __init__(self, product: Callable[[Tensor, Tensor], Tensor]):
        super().__init__()
        self.product = product
        self.reset()

    def reset(self) -> None:
        self.left: Tensor | None = None
        self.right: Tensor | None = None
        self.sum: Tensor | None = None

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        out = []
        for left, right in zip(self.clock.split(q), self.clock.split(k), strict=True):
            if self.sum is None:
                self.left, self.right = (torch.zeros_like(for_sums(x)) for x in (left, right))
                self.sum = torch.zeros_like(self.product(self.left, self.right))
            self.sum = self.sum + self.product(left, self.right)
            self.left, self.right = self.left + left, self.right + right
            self.sum = self.sum + self.product(self.left, right)
            out.append(self.sum)
        return torch.cat(out)
