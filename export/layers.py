"""What an exported network is made of: layers whose results are summed at what reads them.

Every neuron has threshold 1 and sends {0, 1}; heights, batch norms and pooling divisors stand in the
weights. Values are float64 until they are written.
"""

import dataclasses
import math

import torch.nn.functional as F
from torch import Tensor


@dataclasses.dataclass
class Layer:
    """One node; it reads the sum of its `inputs`.

    Attributes:
        name: unique, without dots.
        inputs: names of layers.
        shape: of one result, without batch.
    """

    name: str
    inputs: list[str]
    shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """The result [B, *shape] for the sum x of its inputs."""
        raise NotImplementedError


class Image(Layer):
    """The image, the same in every step."""


@dataclasses.dataclass
class Readout(Layer):
    """The output; its mean over time is the readout, times `scale`.

    Attributes:
        scale: how many times as large as the logits the outputs are.
    """

    scale: float = 1.0

    def __call__(self, x):
        return x


@dataclasses.dataclass
class Neurons(Layer):
    """Integrate and fire, soft reset: v += x; spike if v >= threshold; v -= threshold at a spike.

    Attributes:
        site: name of the activation site in the spiking network.
        starts_at: v(0) over the threshold.
        threshold: 1, or a whole number where the weights are whole.
    """

    site: str
    starts_at: float = 0.5
    threshold: float = 1.0


@dataclasses.dataclass
class Weighted(Layer):
    """A layer of weights: of shape [O, I] a matrix, [O, I / groups, k, k] a convolution.

    Attributes:
        weight, bias: the bias acts in every step; None for none.
        stride, padding, dilation: (rows, columns), of a convolution.
        identity: it only carries values over: a shortcut, or a scale.
    """

    weight: Tensor
    bias: Tensor | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    identity: bool = False

    def __call__(self, x):
        weight = self.weight.to(x)
        bias = None if self.bias is None else self.bias.to(x)
        if weight.dim() == 2:
            return F.linear(x, weight, bias)
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    @property
    def channels(self) -> int:
        return self.weight.shape[0]


@dataclasses.dataclass
class Pool(Layer):
    """The sum of each window, or its average; windows that stand out at the border see zeros."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    average: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.kernel)

    def __call__(self, x):
        mean = F.avg_pool2d(x, self.kernel, self.stride, self.padding)
        return mean if self.average else mean * self.size


class Flatten(Layer):
    """[C, H, W] to [C * H * W]."""

    def __call__(self, x):
        return x.flatten(1)


@dataclasses.dataclass
class Exportable:
    """A network in the form in which it leaves.

    Attributes:
        layers: {name: layer}, each after those that it reads.
        readout: which steps the readout averages ("mean", "second-half").
        grown: {layer: how many times larger it became where groups were written out}.
        bits: of the weights.
    """

    layers: dict[str, Layer]
    readout: str = "mean"
    grown: dict[str, float] = dataclasses.field(default_factory=dict)
    bits: int = 32

    @property
    def neurons(self) -> list[Neurons]:
        return [layer for layer in self.layers.values() if isinstance(layer, Neurons)]

    @property
    def weighted(self) -> list[Weighted]:
        return [layer for layer in self.layers.values() if isinstance(layer, Weighted)]

    @property
    def image(self) -> Image:
        return next(layer for layer in self.layers.values() if isinstance(layer, Image))

    def readers(self, name: str) -> list[Layer]:
        """The layers that read a layer."""
        return [layer for layer in self.layers.values() if name in layer.inputs]

    def replace(self, name: str, new: str) -> None:
        """What read one layer reads another."""
        for layer in self.layers.values():
            layer.inputs = [new if given == name else given for given in layer.inputs]

    def constant(self) -> set[str]:
        """Names of the layers that depend on the image alone."""
        found: set[str] = set()
        for layer in self.layers.values():
            same = isinstance(layer, Image) or all(name in found for name in layer.inputs)
            if same and not isinstance(layer, Neurons):
                found.add(layer.name)
        return found
