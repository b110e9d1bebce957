"""What each value must satisfy, as a table: a wrong recipe is refused before any work starts."""

import math

from yacs.config import CfgNode

from ..support.choices import (
    ATTENTIONS,
    CALIBRATIONS,
    ENERGY_MODELS,
    NEURONS,
    READOUTS,
    SCALINGS,
)

_POSITIVE = (lambda v: v >= 1, ">= 1")
_NOT_NEGATIVE = (lambda v: v >= 0 and math.isfinite(v), ">= 0 and finite")
_RATIO = (lambda v: 0 <= v < 1, "at least 0 and below 1")
_PROBABILITY = (lambda v: 0 <= v <= 1, "from 0 to 1")
_ABOVE_ZERO = (lambda v: 0 < v < math.inf, "> 0 and finite")


def _one_of(*names):
    return (lambda v: v in names, "one of " + ", ".join(names))


def _chosen(choices: dict, *more: str):
    """One of what is registered at the time of the check."""
    return (lambda v: v in more or v in choices, lambda: _one_of(*more, *choices)[1])


_STEPS = (lambda v: all(type(t) is int and t >= 1 for t in v), "a list of whole numbers >= 1")
_RANGE = (
    lambda v: (
        len(v) == 2
        and all(type(x) in (int, float) for x in v)
        and 0 < v[0] <= v[1]
        and math.isfinite(v[1])
    ),
    "two numbers above 0, the smaller one first, such as [0.08, 1.0]",
)
_NAMES = (lambda v: all(type(name) is str for name in v), "a list of site names")

CHECKS = {
    "MODEL.LEVELS": _POSITIVE,
    "MODEL.SOURCE": _one_of("own", "timm", "torchvision"),
    "MODEL.SWAPS": (lambda v: all(name in ("norm", "gelu") for name in v), "a list of norm, gelu"),
    "MODEL.SITES": _one_of("relu", "all"),
    "MODEL.THRESHOLD": _NOT_NEGATIVE,
    "MODEL.MASK": _RATIO,
    "MODEL.MASK_SITES": _NAMES,
    "DATA.IMG_SIZE": _NOT_NEGATIVE,
    "DATA.IN_CHANS": _NOT_NEGATIVE,
    "DATA.AUGMENT": _one_of("auto", "none", "digits", "crop-flip", "imagenet", "events"),
    "DATA.CROP_SCALE": (
        lambda v: _RANGE[0](v) and v[1] <= 1,
        _RANGE[1] + ", at most 1",
    ),
    "DATA.CROP_RATIO": _RANGE,
    "DATA.FLIP": _PROBABILITY,
    "DATA.COLOR_JITTER": _NOT_NEGATIVE,
    "DATA.ERASE": _PROBABILITY,
    "DATA.INTERPOLATION": _one_of("bicubic", "bilinear"),
    "DATA.CROP_PCT": _PROBABILITY,
    "DATA.VAL_FRACTION": _RATIO,
    "DATA.WORKERS": _NOT_NEGATIVE,
    "TRAIN.EPOCHS": _POSITIVE,
    "TRAIN.COOLDOWN_EPOCHS": _NOT_NEGATIVE,
    "TRAIN.BATCH_SIZE": _POSITIVE,
    "TRAIN.LR": _ABOVE_ZERO,
    "TRAIN.MIN_LR": _NOT_NEGATIVE,
    "TRAIN.WARMUP_FRACTION": _RATIO,
    "TRAIN.WARMUP_EPOCHS": _NOT_NEGATIVE,
    "TRAIN.WARMUP_LR": _NOT_NEGATIVE,
    "TRAIN.SCHEDULE": _one_of("update", "epoch"),
    "TRAIN.MOMENTUM": _RATIO,
    "TRAIN.WEIGHT_DECAY": _NOT_NEGATIVE,
    "TRAIN.LABEL_SMOOTHING": _RATIO,
    "TRAIN.CLIP_GRAD": _NOT_NEGATIVE,
    "TRAIN.CLIP_SHARE": _RATIO,
    "TRAIN.SPIKE_COST": _NOT_NEGATIVE,
    "TRAIN.MIXUP": _NOT_NEGATIVE,
    "TRAIN.CUTMIX": _NOT_NEGATIVE,
    "TRAIN.MIX_PROB": _PROBABILITY,
    "TRAIN.MIX_SWITCH": _PROBABILITY,
    "TRAIN.MIX_OFF_EPOCH": _NOT_NEGATIVE,
    "TRAIN.AMP": _one_of("none", "bf16", "fp16", "auto"),
    "TRAIN.EMA": _RATIO,
    "TRAIN.SEED": _NOT_NEGATIVE,
    "TRAIN.TIMESTEPS": _NOT_NEGATIVE,
    "CONVERT.NEURON": _chosen(NEURONS),
    "CONVERT.ATTENTION": _chosen(ATTENTIONS),
    "CONVERT.TIMESTEPS": _POSITIVE,
    "CONVERT.READOUT": _chosen(READOUTS),
    "CONVERT.MASK_SCALING": _chosen(SCALINGS),
    "CONVERT.CALIBRATE": _chosen(CALIBRATIONS, "none"),
    "CONVERT.CALIBRATION_IMAGES": _POSITIVE,
    "CONVERT.SEED": _NOT_NEGATIVE,
    "EVAL.BATCH_SIZE": _POSITIVE,
    "EVAL.TIMESTEPS": _STEPS,
    "EVAL.CHUNK": _NOT_NEGATIVE,
    "EVAL.ENERGY": _chosen(ENERGY_MODELS),
}


def check_values(cfg: CfgNode) -> None:
    """ValueError for the first value that cannot be (NaN fails every range)."""
    for key, (holds, condition) in CHECKS.items():
        group, name = key.split(".")
        if not holds(cfg[group][name]):
            words = condition() if callable(condition) else condition
            raise ValueError(f"{key} is {cfg[group][name]!r}, but must be {words}")
