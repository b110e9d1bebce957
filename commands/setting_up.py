"""From a config to plain arguments: data, network, what a checkpoint says about itself."""

from pathlib import Path

import torch

from ..configs import default_config
from ..data import load_dataset
from ..distributed import rank, world_size


def open_data(
    cfg,
    img_size: int | None = None,
    in_chans: int | None = None,
    name: str | None = None,
    path: str | None = None,
    **more,
):
    """The config's data set, prepared for its network; `name` and `path` choose another one.

    Args:
        more: other arguments of `load_dataset`.
    """
    same = name is None or name == cfg.DATA.NAME
    return load_dataset(
        name or cfg.DATA.NAME,
        path=path or (cfg.DATA.PATH if same else "") or None,
        img_size=img_size or cfg.DATA.IMG_SIZE or None,
        in_chans=in_chans or cfg.DATA.IN_CHANS or None,
        val_fraction=cfg.DATA.VAL_FRACTION,
        seed=cfg.TRAIN.SEED,
        download=cfg.DATA.DOWNLOAD,
        crop_pct=cfg.DATA.CROP_PCT,
        interpolation=cfg.DATA.INTERPOLATION,
        **more,
    )


def timm_options(cfg) -> dict:
    """Arguments of timm's training transform (DATA.AUGMENT imagenet)."""
    data = cfg.DATA
    return {
        "auto_augment": data.RAND_AUGMENT or None,
        "scale": tuple(data.CROP_SCALE),
        "ratio": tuple(data.CROP_RATIO),
        "hflip": data.FLIP,
        "color_jitter": data.COLOR_JITTER,
        "re_prob": data.ERASE,
        "interpolation": data.INTERPOLATION,
    }


def training_images(bundle, count: int, seed: int, skip: int = 0) -> torch.Tensor:
    """Images of the training split, without augmentation, chosen by `seed`: [count, C, H, W].

    Args:
        skip: leave out so many images before (those that a calibration saw), if there are enough.

    Raises:
        ValueError: there are fewer than `count`.
    """
    train = bundle.split("train")
    if count > len(train):
        raise ValueError(
            f"{count} training images asked for, but {bundle.name} has {len(train)}; give "
            f"--calibration-images {len(train)} or less"
        )
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    first = min(skip, len(train) - count)
    return torch.stack([train[int(index)][0] for index in order[first : first + count]])


def shared_out() -> dict:
    """Arguments that give each process its part of a loader."""
    return {"rank": rank(), "world_size": world_size()}


def describe_build(cfg, bundle) -> dict:
    """The plain numbers that `spikeswap.train.build_network` builds a network from."""
    return {
        "model": cfg.MODEL.NAME,
        "num_classes": bundle.num_classes,
        "img_size": bundle.img_size,
        "in_chans": bundle.in_chans,
        "overrides": plain_dict(cfg.MODEL.OVERRIDES),
        "levels": cfg.MODEL.LEVELS,
        "threshold": cfg.MODEL.THRESHOLD,
        "mask": cfg.MODEL.MASK,
        "mask_sites": list(cfg.MODEL.MASK_SITES),
        **({"source": cfg.MODEL.SOURCE} if cfg.MODEL.SOURCE != "own" else {}),
        **({"swaps": list(cfg.MODEL.SWAPS)} if cfg.MODEL.SWAPS else {}),
        **({"sites": cfg.MODEL.SITES} if cfg.MODEL.SITES != "relu" else {}),
    }


def describe_direct(cfg, bundle) -> dict:
    """The same for a network that is trained as it is: spiking, or a conventional rival."""
    build = {**describe_build(cfg, bundle), "levels": None, "threshold": None, "mask": 0.0}
    if cfg.TRAIN.TIMESTEPS:
        build["overrides"].setdefault("timesteps", cfg.TRAIN.TIMESTEPS)
    return build


def describe_data(bundle) -> dict:
    """What a checkpoint says about the data that its network was trained on."""
    return {
        "name": bundle.name,
        "note": bundle.note,
        "class_names": list(bundle.class_names),
        "splits": bundle.splits,
    }


def plain_dict(node) -> dict:
    """A config node as ordinary dictionaries."""
    return {
        key: plain_dict(value) if isinstance(value, dict) else value for key, value in node.items()
    }


def origin(cfg, key: str, given) -> str:
    """Where a setting comes from: "given" on the command line, "recipe" or "default"."""
    if given is not None:
        return "given"
    group, name = key.split(".")
    return "default" if cfg[group][name] == default_config()[group][name] else "recipe"


def stem_of(cfg_argument: str, data: str) -> str:
    """Name of a run: config stem + data."""
    return f"{Path(cfg_argument).stem}_{data}"
