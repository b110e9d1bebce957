"""VGG-16 in the layout of the QCFS repository: batch norm, average pooling.

T. Bu et al., ICLR 2022; K. Simonyan and A. Zisserman, ICLR 2015.
"""

from torch import Tensor, nn

from .registry import register


class VGG(nn.Module):
    """Images [B, in_chans, S, S] to logits [B, num_classes].

    Args:
        img_size: side S; a multiple of 2^stages.
        stages: convolution widths between poolings.
        hidden: width of the two hidden linear layers.
        dropout: rate after every activation (off in eval mode).
    """

    def __init__(
        self,
        img_size: int = 32,
        in_chans: int = 3,
        num_classes: int = 10,
        stages=((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3),
        hidden: int = 4096,
        dropout: float = 0.0,
    ):
        super().__init__()
        step = 2 ** len(stages)
        if img_size <= 0 or img_size % step:
            below = max(step, img_size // step * step)
            raise ValueError(
                f"img_size {img_size} is not a multiple of {step} ({len(stages)} "
                f"poolings); near sizes that work: {below}, {below + step}"
            )
        self.img_size, self.in_chans, self.num_classes = img_size, in_chans, num_classes
        self.mask_sites, self.stages, width = [], [], in_chans
        for i, widths in enumerate(stages):
            layers: list[nn.Module] = []
            for w in widths:
                layers += [
                    nn.Conv2d(width, w, 3, 1, 1),
                    nn.BatchNorm2d(w),
                    nn.ReLU(),
                    nn.Dropout(dropout),
                ]
                width = w
            name = f"layer{i + 1}"
            self.add_module(name, nn.Sequential(*layers, nn.AvgPool2d(2)))
            self.stages.append(name)
            self.mask_sites.append(f"{name}.{len(layers) - 2}")
        self.mask_sites.pop()  # what enters a block: the classifier is none
        side = img_size // step
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(width * side**2, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.classifier(x)


register(VGG, vgg16={})
