"""torchvision's segmentation networks, and the backbones and heads of its detectors."""

import pytest
import torch
from torch import nn

from spikeswap.calibrate import activation_thresholds
from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.support.structure import tensors_of

torchvision = pytest.importorskip("torchvision")
NOT_LOADED = {"weights": None, "weights_backbone": None}


class Heads(nn.Module):
    """A detector without the selection of boxes: what its heads give on the backbone's maps."""

    def __init__(self, detector):
        super().__init__()
        self.backbone = detector.backbone
        self.head = detector.rpn.head if hasattr(detector, "rpn") else detector.head

    def forward(self, images):
        return self.head(list(self.backbone(images).values()))


def segmentation(name):
    return getattr(torchvision.models.segmentation, name)(**NOT_LOADED)


def detection(name):
    return Heads(getattr(torchvision.models.detection, name)(**NOT_LOADED))


# name: (maker, pixels, number of outputs)
RELU = {
    "fcn_resnet50": (segmentation, 64, 1),
    "deeplabv3_resnet50": (segmentation, 64, 1),
    "retinanet_resnet50_fpn": (detection, 64, 2),
    "retinanet_resnet50_fpn_v2": (detection, 64, 2),
    "fcos_resnet50_fpn": (detection, 64, 3),
    "fasterrcnn_resnet50_fpn": (detection, 64, 10),
    "fasterrcnn_resnet50_fpn_v2": (detection, 64, 10),
    "ssd300_vgg16": (detection, 300, 2),
}
SMOOTH = {  # hard swish, hard sigmoid: with sites="all"
    "deeplabv3_mobilenet_v3_large": (segmentation, 64, 1),
    "lraspp_mobilenet_v3_large": (segmentation, 64, 1),
    "ssdlite320_mobilenet_v3_large": (detection, 320, 2),
    "fasterrcnn_mobilenet_v3_large_fpn": (detection, 64, 6),
}


def settled(model, images):
    """Batch norms with the statistics of these images; frozen ones as if they had some."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
            module.reset_running_stats()
        elif type(module).__name__ == "FrozenBatchNorm2d":
            module.running_var.fill_(3.0)
    with torch.no_grad():
        model.train()(images)
    return model.eval()


def check(make, name, pixels, outputs, **arguments):
    """By `multi` it equals its quantised network at every step from some T <= 60 on."""
    images = torch.randn(2, 3, pixels, pixels, dtype=torch.double)
    model = settled(make(name).double(), images)
    thresholds = activation_thresholds(model, [images], **arguments)
    qcfs = insert_qcfs(
        model, levels=16, thresholds=thresholds, example_inputs=images, **arguments
    ).eval()
    snn = convert_model(qcfs, neuron="multi")
    with torch.no_grad():
        expected = qcfs(images)
    readout = snn(images, timesteps=60 if pixels < 100 else 24)
    assert type(readout) is type(expected)
    pairs = list(zip(tensors_of(readout), tensors_of(expected), strict=True))
    assert len(pairs) == outputs
    for value, target in pairs:
        errors = (value - target).flatten(1).norm(dim=1) / target.norm()
        assert bool((errors[-4:] < 1e-6).all()), errors[-6:]
        assert float(errors[0]) > 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", RELU)
def test_networks_with_relu_equal_their_quantised_network(name):
    make, pixels, outputs = RELU[name]
    check(make, name, pixels, outputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMOOTH)
def test_networks_with_hard_swish_equal_their_quantised_network(name):
    make, pixels, outputs = SMOOTH[name]
    check(make, name, pixels, outputs, sites="all")
