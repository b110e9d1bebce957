"""What the two training commands share: recipe, resuming, the training, what they say."""

import sys
import time
from pathlib import Path

from ..configs import default_config, get_config
from ..distributed import barrier
from ..train import (
    build_network,
    checkpoint_of,
    classification_accuracy,
    find_run,
    load_checkpoint,
    restore_network,
    runs_of,
    seed_everything,
    set_clip_share,
    start_network,
    train_classifier,
)
from . import setting_up
from .cli import say, say_settings
from .run_keeper import RunKeeper
from .training_flags import FLAG_KEYS

TET_WEIGHT = 1e-3  # lambda of the TET loss, S. Deng et al., ICLR 2022
# Keys in which a resumed training may differ from what it was started with.
_FREE = (
    "DATA.PATH",
    "DATA.DOWNLOAD",
    "DATA.WORKERS",
    "TRAIN.INIT",
    "TRAIN.EPOCHS",
    "TRAIN.COOLDOWN_EPOCHS",
)


def recipe(arguments) -> tuple:
    """The frozen config and the run to go on with: (cfg, (folder, checkpoint) or None)."""
    overrides = list(arguments.set)
    for flag, key in FLAG_KEYS.items():
        value = getattr(arguments, flag, None)
        if value is not None:
            overrides += [key, value]
    if arguments.resume and arguments.resume != "auto":
        folder = _run_folder(Path(arguments.resume))
        arguments.cfg = arguments.cfg or str(folder / "config.yaml")
    elif arguments.cfg is None:
        raise ValueError("no recipe given; name one with --cfg, e.g. --cfg swin_t_bn.yaml")
    else:
        folder = None
    cfg = get_config(arguments.cfg, overrides)
    if arguments.resume == "auto":
        stem = setting_up.stem_of(arguments.cfg, cfg.DATA.NAME)
        with_checkpoint = [
            run
            for run in runs_of(Path(arguments.output), stem)
            if (run / "checkpoints" / "last.pt").is_file()
        ]
        folder = with_checkpoint[-1] if with_checkpoint else None
        if folder is None:
            say(
                f"--resume auto: no run {stem} with a checkpoint in {arguments.output}/ yet, "
                "starting a new one"
            )
    if folder is None:
        return cfg, None
    checkpoint = load_checkpoint(checkpoint_of(folder))
    _check_same(cfg, checkpoint["config"], folder)
    return cfg, (folder, checkpoint)


def _run_folder(path: Path) -> Path:
    if path.is_file() and path.parent.name == "checkpoints":
        return path.parent.parent
    return find_run(path)


def _check_same(cfg, saved: dict, folder: Path) -> None:
    differing = []
    for group, values in setting_up.plain_dict(cfg).items():
        for name, value in values.items():
            key = f"{group}.{name}"
            old = saved.get(group, {}).get(name, default_config()[group][name])
            if group in ("MODEL", "DATA", "TRAIN") and key not in _FREE and value != old:
                differing.append(f"{key} is {value}, was {old}")
    if differing:
        raise ValueError(
            f"run {folder} was started with other settings ({'; '.join(differing)}); "
            "resume it with its own, or start a new run without --resume"
        )


def run(arguments, cfg, bundle, build: dict, *, device, resumed) -> None:
    """Train `build`, keep checkpoints and metrics, say what came out."""
    seed_everything(cfg.TRAIN.SEED)
    model = _start(cfg, bundle, build, resumed)
    set_clip_share(model, cfg.TRAIN.CLIP_SHARE)
    kind = (
        "qcfs"
        if build["levels"] is not None
        else "direct"
        if hasattr(model, "step_logits")
        else "ann"
    )
    parts = {"workers": cfg.DATA.WORKERS, **setting_up.shared_out()}
    train_loader = bundle.train_loader(
        cfg.TRAIN.BATCH_SIZE,
        augment=cfg.DATA.AUGMENT,
        seed=cfg.TRAIN.SEED,
        timm_options=setting_up.timm_options(cfg),
        **parts,
    )
    select_loader = (
        bundle.eval_loader(cfg.EVAL.BATCH_SIZE, split="select", **parts)
        if "select" in bundle.splits
        else None
    )
    _say_start(cfg, bundle, model, device, kind)
    keeper = RunKeeper(arguments, cfg, bundle, build, kind, resumed)
    started, cpu = time.perf_counter(), time.process_time()
    try:
        trained = train_classifier(
            model,
            train_loader,
            validation_loader=select_loader,
            epochs=cfg.TRAIN.EPOCHS,
            num_classes=bundle.num_classes,
            device=device,
            seed=cfg.TRAIN.SEED,
            resume=resumed[1] if resumed else None,
            on_epoch=keeper.after_epoch,
            **_plain_arguments(cfg, model if kind == "direct" else None),
        )
    except BaseException:
        keeper.clean_up()
        if not keeper.fresh:
            say(
                f"stopped; python tools/{Path(sys.argv[0]).name} --resume {keeper.folder} goes on "
                "after the last whole epoch"
            )
        raise
    barrier()
    epochs = sum(line["split"] == "train" for line in trained)
    say(
        f"trained {epochs} epochs in {time.perf_counter() - started:.0f} s "
        f"({time.process_time() - cpu:.0f} s of processor time)"
        if epochs
        else "nothing was left to train"
    )
    found = classification_accuracy(
        restore_network(load_checkpoint(checkpoint_of(keeper.folder))).to(device),
        bundle.eval_loader(cfg.EVAL.BATCH_SIZE, **parts),
        device,
    )
    masks = ", masks at their expectation" if kind == "qcfs" and build["mask"] else ""
    say(
        f"held-out split, {found['images']} images{masks}: top-1 {found['top1']:.2f} %, top-5 "
        f"{found['top5']:.2f} %, loss {found['loss']:.4f}"
    )
    say(f"run folder: {keeper.folder}")
    say(
        "next: python tools/"
        + ("convert.py --T 128" if kind == "qcfs" else "eval.py")
        + ("" if arguments.output == "runs" else f" --run {keeper.folder}")
    )


def _start(cfg, bundle, build: dict, resumed):
    """The network that the training starts from; a resumed one gets its weights from the checkpoint."""
    if resumed is not None:
        return build_network(build)

    def images():
        count = min(cfg.CONVERT.CALIBRATION_IMAGES, len(bundle.split("train")))
        return setting_up.training_images(bundle, count, cfg.TRAIN.SEED)

    return start_network(build, cfg.TRAIN.INIT, images)


def _plain_arguments(cfg, spiking) -> dict:
    train = cfg.TRAIN
    sgd = {"momentum": train.MOMENTUM} if train.OPTIMIZER == "sgd" else {}
    direct = {}
    if spiking is not None:
        tet = train.TET or getattr(spiking, "tet", False)
        direct = {"per_step": True, "tet_weight": TET_WEIGHT if tet else None}
    return dict(
        lr=train.LR,
        min_lr=train.MIN_LR,
        warmup_fraction=train.WARMUP_FRACTION,
        warmup_epochs=train.WARMUP_EPOCHS,
        warmup_lr=train.WARMUP_LR,
        cooldown_epochs=train.COOLDOWN_EPOCHS,
        schedule=train.SCHEDULE,
        optimizer=train.OPTIMIZER,
        optimizer_arguments=sgd,
        weight_decay=train.WEIGHT_DECAY,
        label_smoothing=train.LABEL_SMOOTHING,
        spike_cost=train.SPIKE_COST,
        clip_grad=train.CLIP_GRAD,
        mixup=train.MIXUP,
        cutmix=train.CUTMIX,
        mix_prob=train.MIX_PROB,
        mix_switch=train.MIX_SWITCH,
        mix_off_epoch=train.MIX_OFF_EPOCH,
        amp=train.AMP,
        ema=train.EMA,
        **direct,
    )


def _say_start(cfg, bundle, model, device, kind: str) -> None:
    keys = {
        "qcfs": ("MODEL.LEVELS", "MODEL.THRESHOLD", "MODEL.MASK"),
        "ann": (),
        "direct": ("TRAIN.TET",),
    }[kind]
    keys += ("TRAIN.SPIKE_COST",) if cfg.TRAIN.SPIKE_COST else ()
    keys += ("TRAIN.EPOCHS", "TRAIN.BATCH_SIZE", "TRAIN.LR", "TRAIN.SEED")
    steps = {"T": (model.timesteps, "of the network")} if kind == "direct" else {}
    parameters = sum(p.numel() for p in model.parameters())
    say(f"{cfg.MODEL.NAME} on {bundle.name}: {bundle.note}")
    say_settings(
        {
            "parameters": (f"{parameters:,}", "trained"),
            "images": (
                ", ".join(f"{name} {count:,}" for name, count in bundle.splits.items()),
                f"{bundle.in_chans} x {bundle.img_size} x {bundle.img_size} pixels",
            ),
            "device": (device, f"amp {cfg.TRAIN.AMP}"),
            **steps,
            **{
                key: (cfg[key.split(".")[0]][key.split(".")[1]], setting_up.origin(cfg, key, None))
                for key in keys
            },
            "augmentation": (
                bundle.augmentation(cfg.DATA.AUGMENT),
                setting_up.origin(cfg, "DATA.AUGMENT", None),
            ),
        }
    )
