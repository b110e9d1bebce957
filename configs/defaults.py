"""Every key of a recipe with its unit, and the one way to read a recipe: `get_config`.

A recipe is a small YAML file beside this one; it names only what differs from here. A run
keeps its frozen config as `config.yaml`, which `get_config` reads again unchanged.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from yacs.config import CfgNode

from ..support.atomic import write_file
from .checks import check_values
from .files import find_config, known_configs, read_yaml
from .merging import merge_mapping, set_key

FOLDER = Path(__file__).resolve().parent


def default_config() -> CfgNode:
    """A fresh, unfrozen config with every key at its default."""
    cfg = CfgNode()

    cfg.MODEL = CfgNode()
    cfg.MODEL.NAME = "swin_nano_bn"  # a name of spikeswap.models.list_models(), or of SOURCE
    cfg.MODEL.SOURCE = "own"  # own | timm | torchvision: whose architecture it is
    cfg.MODEL.OVERRIDES = CfgNode(new_allowed=True)  # any constructor argument of that model
    cfg.MODEL.SWAPS = []  # norm (layer norms to batch norms) | gelu (GELU to ReLU): after TRAIN.INIT
    cfg.MODEL.SITES = "relu"  # relu | all: QCFS in place of ReLU, or before every layer and product
    cfg.MODEL.LEVELS = 16  # L: quantisation levels of a QCFS activation, >= 1
    cfg.MODEL.THRESHOLD = 2.0  # start of each learnable threshold, in units of the activation;
    # 0: measured on CONVERT.CALIBRATION_IMAGES training images
    cfg.MODEL.MASK = 0.75  # ratio of spikes dropped at the masked sites in training, [0, 1)
    cfg.MODEL.MASK_SITES = []  # names of the masked sites; empty: those of the architecture

    cfg.DATA = CfgNode()
    cfg.DATA.NAME = "mnist5k"  # a name of spikeswap.data.list_datasets()
    cfg.DATA.PATH = ""  # folder of the data; empty: the data set's own place
    cfg.DATA.IMG_SIZE = 0  # side of the square image in pixels; 0: as the data are
    cfg.DATA.IN_CHANS = 0  # image channels, 1 or 3 (events: 2 or 3); 0: as the data are
    cfg.DATA.AUGMENT = "auto"  # auto | none | digits | crop-flip | imagenet (timm's, by the keys
    # below) | events (of event frames; comes with the event data sets)
    cfg.DATA.RAND_AUGMENT = "rand-m9-mstd0.5-inc1"  # timm's AutoAugment string; empty: off
    cfg.DATA.CROP_SCALE = [0.08, 1.0]  # share of the picture's area that a random crop keeps
    cfg.DATA.CROP_RATIO = [0.75, 4 / 3]  # width over height of a random crop
    cfg.DATA.FLIP = 0.5  # probability of mirroring, [0, 1]
    cfg.DATA.COLOR_JITTER = 0.4  # brightness, contrast, saturation; timm: only without RAND_AUGMENT
    cfg.DATA.ERASE = 0.25  # probability of random erasing, [0, 1]
    cfg.DATA.INTERPOLATION = "bicubic"  # of random crops: bicubic | bilinear
    cfg.DATA.CROP_PCT = 0.0  # share of a file's side that evaluation keeps, resized by
    # INTERPOLATION; 0: the data set's own, resized bilinearly
    cfg.DATA.VAL_FRACTION = 0.0  # share of the training split set apart to choose best.pt, [0, 1)
    cfg.DATA.DOWNLOAD = False  # fetch missing files from the data set's own site
    cfg.DATA.WORKERS = 0  # loader processes (image files, timm's augmentation); 0: none beside

    cfg.TRAIN = CfgNode()
    cfg.TRAIN.EPOCHS = 25  # passes over the training split, without the cool-down
    cfg.TRAIN.COOLDOWN_EPOCHS = 0  # further passes after the cosine, at MIN_LR
    cfg.TRAIN.BATCH_SIZE = 50  # images per step and process
    cfg.TRAIN.TENSORBOARD = False  # write events for TensorBoard beside metrics.jsonl
    cfg.TRAIN.OPTIMIZER = "adamw"  # any name of timm's optimizers: adamw, sgd, lamb ...
    cfg.TRAIN.LR = 3e-3  # peak learning rate, reached at the end of the warm-up
    cfg.TRAIN.MIN_LR = 0.0  # learning rate at the end of the cosine
    cfg.TRAIN.WARMUP_FRACTION = 0.1  # share of all steps with a linear warm-up, [0, 1)
    cfg.TRAIN.WARMUP_EPOCHS = 0  # published recipes: warm-up in epochs, during which the cosine
    # runs unseen; 0: WARMUP_FRACTION, and the cosine starts after it
    cfg.TRAIN.WARMUP_LR = 0.0  # learning rate of the first step; 0: a hundredth of the peak
    cfg.TRAIN.SCHEDULE = "update"  # update | epoch: how often the learning rate changes
    cfg.TRAIN.MOMENTUM = 0.9  # of sgd
    cfg.TRAIN.WEIGHT_DECAY = (
        0.05  # decoupled (adamw) or L2 (sgd); none on norms, biases, thresholds
    )
    cfg.TRAIN.LABEL_SMOOTHING = 0.1  # probability spread over all classes, [0, 1)
    cfg.TRAIN.CLIP_SHARE = 0.0  # share of calls in which QCFS clips without quantising, [0, 1)
    cfg.TRAIN.SPIKE_COST = 0.0  # weight of the expected accumulations per image, in the loss, over
    # the operations of the dense network; 0: off
    cfg.TRAIN.CLIP_GRAD = 5.0  # largest global gradient norm; 0: no clipping
    cfg.TRAIN.MIXUP = 0.0  # alpha of mixup; 0: off
    cfg.TRAIN.CUTMIX = 0.0  # alpha of cutmix; 0: off
    cfg.TRAIN.MIX_PROB = 1.0  # share of batches that are mixed, [0, 1]
    cfg.TRAIN.MIX_SWITCH = 0.5  # of those, share of cutmix where both are on, [0, 1]
    cfg.TRAIN.MIX_OFF_EPOCH = 0  # epochs after which mixing stops; 0: never
    cfg.TRAIN.AMP = "none"  # none | bf16 | fp16 | auto (fp16 on a GPU): automatic mixed precision
    cfg.TRAIN.EMA = 0.0  # decay of the averaged weights per step, [0, 1); 0: off
    cfg.TRAIN.SEED = 0  # of weights, order, augmentation and masks
    cfg.TRAIN.INIT = ""  # weights to start from: file | pretrained (SOURCE's own); empty: random
    cfg.TRAIN.TIMESTEPS = 0  # T of a direct-trained spiking network (steps per image); 0: its own
    cfg.TRAIN.TET = False  # direct training: loss on every step's logits instead of their mean

    cfg.CONVERT = CfgNode()
    cfg.CONVERT.NEURON = "if"  # if | stbif | multi
    cfg.CONVERT.ATTENTION = "accumulated"  # accumulated | per-step
    cfg.CONVERT.TIMESTEPS = 128  # T (steps per image)
    cfg.CONVERT.READOUT = "mean"  # mean | second-half
    cfg.CONVERT.MASK_SCALING = "none"  # none | inverse: factor 1 or 1 / (1 - p) on what is kept
    cfg.CONVERT.CALIBRATE = "none"  # none | thresholds | bias
    cfg.CONVERT.CALIBRATION_IMAGES = 300  # training images that a calibration sees
    cfg.CONVERT.SEED = 0  # of the masks

    cfg.EVAL = CfgNode()
    cfg.EVAL.BATCH_SIZE = 100  # images per batch
    cfg.EVAL.TIMESTEPS = []  # steps whose accuracy is tabled; empty: 1, 2, 4, ... up to T
    cfg.EVAL.CHUNK = 0  # steps run as one batch; 0: chosen from memory
    cfg.EVAL.ENERGY = "45nm-fp32"  # energy model
    return cfg


def list_configs() -> list[str]:
    """Names of the recipes that come with the package, without `.yaml`, sorted."""
    return known_configs(FOLDER)


def get_config(name_or_path="", overrides: Sequence | Mapping = ()) -> CfgNode:
    """Read a recipe, apply overrides, check and freeze.

    Args:
        name_or_path: a bare name (looked up beside this file, with or without `.yaml`, then in
            the current folder) or a path. Empty: the defaults alone.
        overrides: `KEY VALUE KEY VALUE ...` as from `--set` (text is parsed as YAML), or a
            mapping of dotted keys to values. They win over the file.

    Raises:
        ValueError: unknown recipe, unknown key (near names are listed), a value of the wrong
            type or out of range, a file that is not YAML.
    """
    cfg = default_config()
    if name_or_path:
        path = find_config(name_or_path, FOLDER)
        merge_mapping(cfg, read_yaml(path), where=str(path))
    for key, value in _pairs(overrides):
        set_key(cfg, key, value)
    check_values(cfg)
    cfg.freeze()
    return cfg


def save_config(cfg: CfgNode, path) -> None:
    """Write a config as YAML that `get_config` reads back equal."""
    write_file(path, cfg.dump(sort_keys=False))


def _pairs(overrides) -> list[tuple]:
    if isinstance(overrides, Mapping):
        return list(overrides.items())
    if isinstance(overrides, str):
        raise ValueError(f"overrides must be KEY VALUE pairs in a list, got the text {overrides!r}")
    overrides = list(overrides)
    if len(overrides) % 2:
        raise ValueError(
            f"--set wants KEY VALUE pairs, got {len(overrides)} words ending in "
            f"{overrides[-1]!r}; give every key a value (quote values that hold spaces)"
        )
    return list(zip(overrides[::2], overrides[1::2], strict=True))
