"""Rows in the manner of published energy scripts: rate x dense operations, layer by layer.

These are not our counts. They are what the scripts of Spikingformer and others would print, so that
published figures can be compared and reproduced (docs/energy.md says what they leave out).
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator

from torch import Tensor, nn

from .modules import is_spikingjelly_neuron

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


@dataclasses.dataclass
class PublishedRow:
    """One module, summed over images until `per_image`.

    Attributes:
        kind: "conv", "linear", "norm", "neuron" or "pool".
        dense: dense operations (all time steps).
        ac, mac: rate x dense if the input was binary, else dense.
        rate: mean of the input (of a neuron: the output), 1 where it is not binary.
    """

    name: str
    kind: str
    dense: float = 0.0
    ac: float = 0.0
    mac: float = 0.0
    rate_sum: float = 0.0
    calls: int = 0

    @property
    def rate(self) -> float:
        return self.rate_sum / self.calls if self.calls else 0.0


def binary_rate(x: Tensor) -> float | None:
    """Mean of a tensor that holds at most two values, all in [0, 1]; None for any other."""
    if x.unique().numel() > 2 or float(x.min()) < 0 or float(x.max()) > 1:
        return None
    return float(x.double().mean())


class PublishedRows:
    """Collects rows through hooks; use inside `collect`.

    Args:
        model: a direct-trained network with SpikingJelly neurons.
        timesteps: T; a layer that is computed once for a constant image counts T times, as the
            scripts fold time into the batch.
        once: names of layers that the published network applies to the mean over time.
    """

    def __init__(self, model: nn.Module, timesteps: int, once: tuple[str, ...] = ("head",)):
        self.model, self.timesteps, self.once = model, timesteps, once
        self.rows: dict[str, PublishedRow] = {}
        self.images = 0
        self.outputs: dict[str, tuple[int, ...]] = {}

    @contextlib.contextmanager
    def collect(self, images: int) -> Iterator["PublishedRows"]:
        """Hooks for one forward pass of so many images."""
        handles = []
        for name, module in self.model.named_modules():
            kind = _kind(module)
            if kind is not None:
                handles.append(module.register_forward_hook(self._hook(name, kind, images)))
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()
        self.images += images

    def _hook(self, name: str, kind: str, images: int):
        def hook(module, args, out):
            x = args[0]
            row = self.rows.setdefault(name, PublishedRow(name, kind))
            dense = _dense(kind, module, x, out)
            calls = math.prod(out.shape[:2]) if kind == "neuron" else x.shape[0]
            dense *= images * (1 if name in self.once else self.timesteps) / calls
            rate = binary_rate(out if kind == "neuron" else x)
            row.dense += dense
            row.rate_sum += 1.0 if rate is None else rate
            row.calls += 1
            self.outputs[name] = tuple(out.shape)
            if kind == "norm" or (rate is None and kind != "neuron"):
                row.mac += dense
            else:
                row.ac += dense if kind == "neuron" else dense * rate

        return hook

    def per_image(self) -> list[PublishedRow]:
        """The rows, per image."""
        return [
            dataclasses.replace(
                row,
                dense=row.dense / self.images,
                ac=row.ac / self.images,
                mac=row.mac / self.images,
            )
            for row in self.rows.values()
        ]


def _kind(module: nn.Module) -> str | None:
    for kind, classes in (
        ("conv", _CONVS),
        ("linear", nn.Linear),
        ("norm", _NORMS),
        ("pool", _POOLS),
    ):
        if isinstance(module, classes):
            return kind
    return "neuron" if is_spikingjelly_neuron(module) else None


def _dense(kind: str, module: nn.Module, x: Tensor, out: Tensor) -> float:
    """Operations of one call, biases included as the scripts do."""
    if kind == "conv":
        taps = math.prod(module.kernel_size) * module.in_channels // module.groups
        return out.numel() * (taps + (module.bias is not None))
    if kind == "linear":
        return x.numel() * module.out_features + (out.numel() if module.bias is not None else 0)
    return {"norm": 2 * out.numel(), "neuron": out.numel(), "pool": x.numel()}[kind]
