"""Random spike masks (RSM) of the Masked Spiking Transformer (Z. Wang et al., ICCV 2023).

A mask zeroes each element with probability `ratio`. In training it is drawn from torch's generator;
in a converted network it is a function of seed, site, image number and step alone, so batch split,
chunk, device and number of processes leave it as it is.
"""

import hashlib
import math

import torch
from torch import Tensor, nn

from ..support.choices import SCALINGS
from .clock import Timed

# ratio of a mask -> what the spikes that it keeps are divided by
SCALINGS["none"] = lambda ratio: 1.0
SCALINGS["inverse"] = lambda ratio: 1.0 - ratio

_GOLDEN = -7046029254386353131  # 2**64 / golden ratio, as a signed 64-bit integer (splitmix64)
_PLANES = 24  # bits of the probability


def check_ratio(ratio: float) -> float:
    """The ratio as a float, or ValueError unless 0 <= ratio < 1."""
    try:
        value = float(ratio)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value < 1:
        raise ValueError(
            f"mask ratio {ratio!r} must lie in [0, 1): 0.75 masks three spikes of four"
        )
    return value


def _scaled(kept: Tensor, mask: "SpikeMask | SeededMask") -> Tensor:
    divisor = SCALINGS[mask.scaling](mask.ratio)
    return kept if divisor == 1 else kept / divisor


class SpikeMask(nn.Module):
    """Mask of a trainable network: random in train mode, its expectation in eval mode.

    `none` multiplies by 0 or 1 (eval: 1 - ratio), `inverse` by 0 or 1/(1 - ratio) (eval: 1).
    """

    def __init__(self, ratio: float, scaling: str = "none"):
        super().__init__()
        self.ratio = check_ratio(ratio)
        self.scaling = SCALINGS.check(scaling)

    @property
    def expectation(self) -> float:
        return (1 - self.ratio) / SCALINGS[self.scaling](self.ratio)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x * self.expectation
        keep = torch.rand_like(x) >= self.ratio
        return _scaled(x * keep, self)

    def extra_repr(self) -> str:
        return f"ratio={self.ratio}, scaling={self.scaling!r}"


class SeededMask(Timed, nn.Module):
    """Mask of a spiking network, [K * B, ...] -> the same shape.

    Args:
        site: name of the activation site whose spikes are masked.
        ratio, scaling: as in `SpikeMask`.
        seed: names the whole set of masks.
        frozen: one mask per image for all steps (cumulative coding), else a fresh one each step.
    """

    def __init__(self, site: str, ratio: float, scaling: str, seed: int, frozen: bool):
        super().__init__()
        self.site = site
        self.ratio = check_ratio(ratio)
        self.scaling = SCALINGS.check(scaling)
        self.seed = int(seed)
        self.frozen = frozen

    expectation = SpikeMask.expectation

    def keep(self, steps: range, images: range, count: int, device="cpu") -> Tensor:
        """Which elements stay: bool [steps, images, count]. Steps count from 0."""
        name = hashlib.sha256(f"{self.seed}/{self.site}".encode()).digest()
        key = torch.tensor(int.from_bytes(name[:8], "little", signed=True), device=device)
        image = torch.arange(images.start, images.stop, device=device)
        step = torch.arange(steps.start, steps.stop, device=device)
        key = _mix(key + image * _GOLDEN)
        key = _mix(key + (step[:, None] + 1) * _GOLDEN)
        return bernoulli(key, 1 - self.ratio, count)

    def forward(self, x: Tensor) -> Tensor:
        clock = self.clock
        images = range(clock.first_index, clock.first_index + clock.batch)
        steps = range(1) if self.frozen else range(clock.start, clock.start + clock.steps)
        count = clock.split(x).shape[1:].numel() // clock.batch
        keep = self.keep(steps, images, count, x.device)
        out = (x.reshape(clock.steps, clock.batch, count) * keep).view(x.shape)
        return _scaled(out, self)

    def extra_repr(self) -> str:
        return (
            f"site={self.site!r}, ratio={self.ratio}, scaling={self.scaling!r}, "
            f"seed={self.seed}, frozen={self.frozen}"
        )


def _mix(z: Tensor) -> Tensor:
    """Finaliser of splitmix64 (G. Steele et al., OOPSLA 2014) on signed 64-bit integers."""
    z = (z ^ _shift(z, 30)) * -4658895280553007687
    z = (z ^ _shift(z, 27)) * -7723592293110705685
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical shift to the right."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def bernoulli(keys: Tensor, probability: float, count: int) -> Tensor:
    """Independent bits, true with a probability: bool [*keys.shape, count].

    Every 64-bit word of the counter-based generator gives 64 fair bits; one word for each binary
    digit of the probability is and-ed or or-ed in (24 digits, trailing zeros cost nothing).
    """
    digits = round(probability * 2**_PLANES)
    if digits >= 2**_PLANES:
        return torch.ones(*keys.shape, count, dtype=torch.bool, device=keys.device)
    planes = _PLANES
    while digits and digits % 2 == 0:
        digits, planes = digits // 2, planes - 1
    words = math.ceil(count / 64)
    place = torch.arange(1, words + 1, device=keys.device) * planes
    result = torch.zeros(*keys.shape, words, dtype=torch.int64, device=keys.device)
    for plane in range(planes):
        word = _mix(keys[..., None] + (place + plane) * _GOLDEN)
        result = result | word if digits >> plane & 1 else result & word
    octets = result.view(torch.uint8)[..., None]
    bits = octets & (1 << torch.arange(8, dtype=torch.uint8, device=keys.device))
    return bits.view(*keys.shape, words * 64)[..., :count] != 0
