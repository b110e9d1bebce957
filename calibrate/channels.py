"""Statistics per channel: which axes of a site's tensor are channels, and what is reduced."""

from collections.abc import Callable

import torch
from torch import Tensor, fx, nn

from ..graph.attention import attention_roles
from ..graph.layout import channel_axis


def channel_axes(gm: fx.GraphModule, node: fx.Node, dim: int) -> tuple[int, ...]:
    """Axes of what site `node` gives ([B, ...], `dim` axes) that tell channels apart.

    Axis 1 after convolutions, the last one for tokens; heads and their dimensions for queries,
    keys and values [B, heads, N, d]; heads alone for attention scores [B, heads, N, N].
    """
    axis = channel_axis(gm, node.args[0])
    if axis is not None:
        return (axis % dim,)
    if dim != 4:
        return ()
    return (1,) if node.target in attention_roles(gm).scores else (1, 3)


def per_channel(x: Tensor, axes: tuple[int, ...], reduce: Callable[..., Tensor]) -> Tensor:
    """Reduce [B, ...] over all axes but the channels; the result broadcasts to one image."""
    others = [i for i in range(x.dim()) if i not in axes]
    return reduce(x, dim=others, keepdim=True)[0]


class SiteStatistics:
    """Streaming mean of what a site reads and maximum of what it gives, per channel."""

    def __init__(self, gm: fx.GraphModule, node: fx.Node):
        self.gm, self.node = gm, node
        self.axes: tuple[int, ...] | None = None
        self.total: Tensor | None = None
        self.largest: Tensor | None = None
        self.images = 0

    def see(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        """A forward hook."""
        if self.axes is None:
            self.axes = channel_axes(self.gm, self.node, output.dim())
        images = len(inputs[0])
        total = per_channel(inputs[0], self.axes, torch.mean) * images
        largest = per_channel(output, self.axes, torch.amax)
        self.total = total if self.total is None else self.total + total
        self.largest = largest if self.largest is None else torch.maximum(self.largest, largest)
        self.images += images

    @property
    def mean(self) -> Tensor:
        return self.total / self.images
