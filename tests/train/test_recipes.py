"""Every recipe can be read, its network built, and its optimizer and augmentation are timm's."""

import pytest
import torch
from timm.data import create_transform
from timm.optim import list_optimizers

from spikeswap.configs import get_config, list_configs
from spikeswap.models import create_model
from spikeswap.models.direct import DirectNetwork
from spikeswap.train import plain_network

CLASSES = {"mnist5k": 10, "cifar10": 10, "cifar100": 100, "imagenet": 1000}
EVENT_CLASSES = {"cifar10_dvs": 10, "dvs128_gesture": 11}
CHANNELS = {"mnist5k": 1}
# recipe: model, passes, batch, peak rate, decay, T
PUBLISHED = {
    "spikingformer_8_768_imagenet": ("spikingformer_8_768", 310, 24, 5e-4, 0.05, 4),
    "spikingformer_cifar10": ("spikingformer_4_384", 410, 64, 5e-4, 0.06, 4),
    "spikingformer_cifar10dvs": ("spikingformer_2_256_dvs", 106, 16, 1e-3, 0.06, 16),
    "sdt_8_768_imagenet": ("sdt_8_768", 310, 36, 1e-3, 0.01, 4),
    "sdt_8_512_imagenet": ("sdt_8_512", 310, 48, 1.5e-3, 0.01, 4),
    "sdt_cifar10": ("sdt_2_512", 310, 64, 3e-4, 0.06, 4),
    "sdt_cifar10dvs": ("sdt_2_256_dvs", 210, 32, 7.5e-3, 1e-4, 10),
    "sdt_dvsgesture_t16": ("sdt_2_256", 210, 16, 3e-4, 0.06, 16),
    "spikingresformer_l_imagenet": ("spikingresformer_l", 320, 16, 5e-4, 0.01, 4),
    "spikingresformer_cifar10": ("spikingresformer_cifar", 600, 128, 5e-4, 0.01, 4),
    "spikingresformer_dvsgesture": ("spikingresformer_dvsg", 300, 8, 1e-4, 0.05, 16),
    "spikingresformer_s_transfer_cifar100": ("spikingresformer_s", 150, 128, 1e-4, 0.01, 4),
    "cifar10_snn_cifar10": ("cifar10_snn", 100, 128, 1e-3, 0.0, 4),
}


def built(cfg):
    """The recipe's network, without memory for its weights."""
    overrides = dict(cfg.MODEL.OVERRIDES)
    if cfg.TRAIN.TIMESTEPS:
        overrides["timesteps"] = cfg.TRAIN.TIMESTEPS
    with torch.device("meta"):
        return create_model(
            cfg.MODEL.NAME,
            num_classes={**CLASSES, **EVENT_CLASSES}[cfg.DATA.NAME],
            img_size=cfg.DATA.IMG_SIZE or None,
            in_chans=cfg.DATA.IN_CHANS or CHANNELS.get(cfg.DATA.NAME, 3),
            **overrides,
        )


@pytest.mark.parametrize("name", list_configs())
def test_every_recipe_builds_its_network(name):
    cfg = get_config(name)
    if cfg.MODEL.SOURCE != "own":
        network = plain_network(
            {
                **{"source": cfg.MODEL.SOURCE, "model": cfg.MODEL.NAME, "levels": cfg.MODEL.LEVELS},
                **{"num_classes": CLASSES[cfg.DATA.NAME], "in_chans": CHANNELS[cfg.DATA.NAME]},
                "overrides": dict(cfg.MODEL.OVERRIDES),
            }
        )
        side = cfg.DATA.IMG_SIZE
        assert network(torch.zeros(1, 1, side, side)).shape == (1, CLASSES[cfg.DATA.NAME])
        return
    if "swin" in cfg.MODEL.NAME or "swin" in name:  # index tables need memory
        assert cfg.MODEL.NAME in name or name in cfg.MODEL.NAME
        return
    model = built(cfg)
    classes = {**CLASSES, **EVENT_CLASSES}[cfg.DATA.NAME]
    assert [p.shape[0] for p in model.parameters() if p.dim()][-1] == classes
    if isinstance(model, DirectNetwork):
        assert model.timesteps == cfg.TRAIN.TIMESTEPS
        assert model.img_size == cfg.DATA.IMG_SIZE
    assert cfg.TRAIN.OPTIMIZER in list_optimizers()
    assert cfg.TRAIN.WARMUP_EPOCHS < cfg.TRAIN.EPOCHS
    assert cfg.TRAIN.MIN_LR < cfg.TRAIN.LR
    if cfg.DATA.AUGMENT == "imagenet":
        create_transform(
            cfg.DATA.IMG_SIZE, is_training=True, auto_augment=cfg.DATA.RAND_AUGMENT or None
        )


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers(name):
    cfg = get_config(name)
    train = cfg.TRAIN
    found = (
        cfg.MODEL.NAME,
        train.EPOCHS + train.COOLDOWN_EPOCHS,
        train.BATCH_SIZE,
        train.LR,
        train.WEIGHT_DECAY,
        train.TIMESTEPS,
    )
    assert found == PUBLISHED[name]
    assert train.CLIP_GRAD == 0


def test_heads_of_the_spikingformers_on_cifar():
    heads = [
        built(get_config(f"spikingformer_cifar{n}")).block[0].attn.num_heads for n in (10, 100)
    ]
    assert heads == [12, 8]


def test_rivals_are_trained_alike():
    for tail in ("", "_cifar10"):
        snn, cnn = (get_config(f"cifar10_{kind}{tail}") for kind in ("snn", "cnn"))
        assert snn.MODEL.OVERRIDES == cnn.MODEL.OVERRIDES
        assert snn.DATA == cnn.DATA
        different = {key for key in snn.TRAIN if snn.TRAIN[key] != cnn.TRAIN[key]}
        assert different == {"TIMESTEPS"}
