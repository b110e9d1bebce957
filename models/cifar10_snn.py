"""The CIFAR-10 network of the seed report, section 2: six conv blocks, twice.

`cifar10_snn` has IF neurons (ATan surrogate, T = 4), `cifar10_cnn` the same layers with ReLU:
same state-dict keys, so that each can start from the other's weights.
"""

from functools import partial

import torch
from spikingjelly.activation_based import base
from torch import nn

from .direct import (
    DirectNetwork,
    check_divides,
    check_positive,
    norm_over_time,
    numbers_of_stages,
    over_time,
    spiking_neuron,
)
from .registry import register

POOLS = 3  # 2x2 poolings, one after each pair of conv blocks


def conv_block(in_chans: int, out_chans: int, make_activation) -> nn.Sequential:
    """3x3 convolution, BatchNorm, activation."""
    return nn.Sequential(
        nn.Conv2d(in_chans, out_chans, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_chans),
        make_activation(),
    )


def build_layers(
    num_classes: int,
    img_size: int,
    in_chans: int,
    widths: tuple[int, ...],
    hidden: int,
    make_activation,
) -> tuple[nn.Sequential, nn.Sequential]:
    """The convolutional part, `[B, C, H, W]` to `[B, C', H/8, W/8]`, and the classifier."""
    check_divides("img_size", img_size, 2**POOLS, f"the network halves the image {POOLS} times")
    numbers_of_stages(widths=widths)
    if len(widths) != POOLS:
        raise ValueError(
            f"widths is {widths!r}; it takes {POOLS} numbers of channels, such as [128, 256, 512]"
        )
    check_positive(**{f"widths[{stage}]": width for stage, width in enumerate(widths)})
    check_positive(num_classes=num_classes, in_chans=in_chans, hidden=hidden)
    layers = []
    for width in widths:
        layers += [
            conv_block(in_chans, width, make_activation),
            conv_block(width, width, make_activation),
            nn.MaxPool2d(2),
        ]
        in_chans = width
    side = img_size // 2**POOLS
    classifier = nn.Sequential(
        nn.Linear(in_chans * side * side, hidden), make_activation(), nn.Linear(hidden, num_classes)
    )
    return nn.Sequential(*layers), classifier


class Cifar10CNN(nn.Module):
    """The conventional network: `[B, C, H, W]` to `[B, classes]`, ReLU activations.

    Args:
        widths: channels of the three pairs of conv blocks.
        hidden: units of the hidden linear layer.
    """

    def __init__(
        self,
        num_classes: int = 10,
        img_size: int = 32,
        in_chans: int = 3,
        widths: tuple[int, ...] = (128, 256, 512),
        hidden: int = 1024,
    ):
        super().__init__()
        self.img_size = img_size
        self.features, self.classifier = build_layers(
            num_classes, img_size, in_chans, widths, hidden, nn.ReLU
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.features(images), 1))


class Cifar10SNN(DirectNetwork):
    """The spiking network: the same layers with IF neurons.

    Args:
        widths: channels of the three pairs of conv blocks.
        hidden: units of the hidden linear layer.
        timesteps: steps for a still image (event frames bring their own).
    """

    def __init__(
        self,
        num_classes: int = 10,
        img_size: int = 32,
        in_chans: int = 3,
        widths: tuple[int, ...] = (128, 256, 512),
        hidden: int = 1024,
        timesteps: int = 4,
    ):
        super().__init__(timesteps)
        self.img_size = img_size
        neuron = partial(spiking_neuron, "if", gradient="atan")
        self.features, self.classifier = build_layers(
            num_classes, img_size, in_chans, widths, hidden, neuron
        )

    def _step_logits(self, frames_TBCHW: torch.Tensor) -> torch.Tensor:
        height, width = frames_TBCHW.shape[-2:]
        if (height, width) != (self.img_size, self.img_size):
            raise ValueError(
                f"the images are {height} x {width}, but this network is built for "
                f"{self.img_size} x {self.img_size}; resize them, or give its img_size"
            )
        x = frames_TBCHW
        for layer in self.features:
            if isinstance(layer, nn.Sequential):
                conv, norm, neuron = layer
                x = neuron(norm_over_time(over_time(x, conv), norm))
            else:
                x = over_time(x, layer)
        x = x.flatten(2)
        for layer in self.classifier:
            x = layer(x) if isinstance(layer, base.MemoryModule) else over_time(x, layer)
        return x


register(Cifar10SNN, cifar10_snn={})
register(Cifar10CNN, cifar10_cnn={})
