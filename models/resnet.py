"""ResNet-18/20/34 in the layout of the QCFS repository (CIFAR stem, no max-pool).

T. Bu et al., ICLR 2022; K. He et al., CVPR 2016. Sites are plain ReLU until `insert_qcfs`.
"""

import torch
from torch import Tensor, nn

from .registry import register


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut, [B, in_width, H, W] -> [B, width, H/s, W/s]."""

    def __init__(self, in_width: int, width: int, stride: int):
        super().__init__()
        self.residual_function = nn.Sequential(
            nn.Conv2d(in_width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or in_width != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_width, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.residual_function(x) + self.shortcut(x))


class ResNet(nn.Module):
    """Images [B, in_chans, H, W] of any size to logits [B, num_classes].

    Args:
        widths, depths: channels and blocks of each stage; every stage but the first halves H, W.
    """

    def __init__(
        self,
        img_size: int = 32,
        in_chans: int = 3,
        num_classes: int = 10,
        widths=(64, 128, 256, 512),
        depths=(2, 2, 2, 2),
    ):
        super().__init__()
        self.img_size, self.in_chans, self.num_classes = img_size, in_chans, num_classes
        self.conv1 = nn.Sequential(
            nn.Conv2d(in_chans, widths[0], 3, 1, 1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        sites, width = ["conv1.2"], widths[0]
        self.stages = [f"conv{i + 2}_x" for i in range(len(widths))]
        for i, (name, depth) in enumerate(zip(self.stages, depths, strict=True)):
            blocks = []
            for j in range(depth):
                blocks.append(BasicBlock(width, widths[i], 2 if i and not j else 1))
                width = widths[i]
                sites.append(f"{name}.{j}.act")
            self.add_module(name, nn.Sequential(*blocks))
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, num_classes)
        self.mask_sites = sites[:-1]  # what enters a block

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.fc(torch.flatten(self.avg_pool(x), 1))


register(
    ResNet,
    resnet18={},
    resnet34={"depths": (3, 4, 6, 3)},
    resnet20={"widths": (16, 32, 64), "depths": (3, 3, 3)},
)
