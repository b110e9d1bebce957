"""The steps of tools/convert.py: settings, calibration data, conversion, check."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import _runs
import _setup
import torch
from _cli import say

from spikeswap.configs import get_config, save_config
from spikeswap.convert import convert_model
from spikeswap.distributed import world_size
from spikeswap.models import load_published
from spikeswap.train import build_network, claim_run_folder, point_latest, save_checkpoint

CHECK_IMAGES = 16  # training images that the comparison with the ANN sees


@dataclass
class Settings:
    """How a network is converted; `origins` says where each value comes from."""

    neuron: str
    attention: str
    readout: str
    timesteps: int
    mask: float
    mask_scaling: str
    calibrate: str
    calibration_images: int
    seed: int
    origins: dict = field(default_factory=dict)

    def plain(self) -> dict:
        """For conversion.json."""
        return {key: value for key, value in asdict(self).items() if key != "origins"}

    def shown(self) -> dict:
        """For the command's answer: name -> (value, origin)."""
        shown = {key: (value, self.origins[key]) for key, value in self.plain().items()}
        if self.calibrate == "none":
            del shown["calibration_images"]
        return {key.replace("_", " "): value for key, value in shown.items()}


def check_arguments(arguments) -> None:
    """Refuse combinations that mean nothing, before any work."""
    if world_size() > 1:
        raise ValueError(
            "tools/convert.py is no work for several processes; start it without torchrun"
        )
    if arguments.weights is None and arguments.cfg is not None:
        raise ValueError(
            "--cfg belongs to --weights PATH; a run keeps its own recipe, name it with --run DIR"
        )
    if arguments.weights is not None and arguments.cfg is None:
        raise ValueError(
            "--weights needs the recipe of its network; give --cfg NAME, e.g. --cfg mst_swin_t.yaml"
        )
    if arguments.weights is not None and arguments.run is not None:
        raise ValueError("--run and --weights name two networks; give one of them")


def settle(arguments, run) -> Settings:
    """Flags first, then the run's recipe; what only rate coding knows falls away elsewhere."""
    cfg, origins = run.cfg, {}

    def choose(name: str, key: str, given):
        origins[name] = _setup.origin(cfg, key, given)
        group, field_name = key.split(".")
        return cfg[group][field_name] if given is None else given

    values = {
        "neuron": choose("neuron", "CONVERT.NEURON", arguments.neuron),
        "attention": choose("attention", "CONVERT.ATTENTION", arguments.attention),
        "readout": choose("readout", "CONVERT.READOUT", arguments.readout),
        "timesteps": choose("timesteps", "CONVERT.TIMESTEPS", arguments.T),
        "mask_scaling": choose("mask_scaling", "CONVERT.MASK_SCALING", arguments.mask_scaling),
        "calibrate": choose("calibrate", "CONVERT.CALIBRATE", arguments.calibrate),
        "calibration_images": choose(
            "calibration_images", "CONVERT.CALIBRATION_IMAGES", arguments.calibration_images
        ),
        "seed": choose("seed", "CONVERT.SEED", arguments.seed),
    }
    trained = run.build.get("mask") or 0.0
    values["mask"] = trained if arguments.mask is None else arguments.mask
    origins["mask"] = (
        "as trained"
        if arguments.mask is None
        else "given, as trained"
        if arguments.mask == trained
        else f"given; trained with {trained:g}"
    )
    if values["neuron"] != "if":
        for name, only in (
            ("attention", "accumulated"),
            ("readout", "mean"),
            ("calibrate", "none"),
        ):
            if getattr(arguments, name) is None and values[name] != only:
                values[name], origins[name] = only, f"the only one for {values['neuron']}"
    return Settings(**values, origins=origins)


def default_tag(settings: Settings) -> str:
    """e.g. if-accumulated-T128-mask0.75, and what else is out of the ordinary."""
    parts = [
        settings.neuron,
        settings.attention,
        f"T{settings.timesteps}",
        f"mask{settings.mask:g}",
    ]
    parts += ["inverse"] if settings.mask and settings.mask_scaling == "inverse" else []
    parts += [settings.calibrate] if settings.calibrate != "none" else []
    return "-".join(parts)


def check_tag(tag: str) -> None:
    """A tag is a folder's name."""
    if not tag or tag.startswith(".") or set(tag) & set("/\\\0") or len(tag) > 200:
        raise ValueError(
            f"tag {tag!r} is no folder name; use letters, digits, dots, dashes and "
            "underscores, e.g. --tag first-try"
        )


def warn(settings: Settings, run) -> None:
    """What a user should know before the numbers come."""
    trained = run.build.get("mask") or 0.0
    if settings.mask != trained:
        say(
            f"warning: trained with mask ratio {trained:g} and converted with {settings.mask:g}; "
            "the network has not learned to live with that, expect a loss of accuracy"
        )


def convert(run, settings: Settings, arguments, device):
    """The spiking network, on `device`."""
    network = run.network().to(device)
    calibration, extra = None, {}
    if settings.calibrate != "none":
        images = training_images(run, arguments, settings.calibration_images, settings.seed)
        calibration = [batch.to(device) for batch in images.split(50)]
        extra = {"calibrate": settings.calibrate, "calibration_steps": settings.timesteps}
    snn = convert_model(
        network,
        neuron=settings.neuron,
        attention=settings.attention,
        mask=settings.mask,
        mask_scaling=settings.mask_scaling,
        mask_sites=run.build.get("mask_sites") or None,
        readout=settings.readout,
        seed=settings.seed,
        calibration=calibration,
        **extra,
    ).to(device)
    snn.info["timesteps"] = settings.timesteps
    return snn


def training_images(run, arguments, count: int, seed: int) -> torch.Tensor:
    """Images of the training split, without augmentation, chosen by `seed`: [count, C, H, W].

    Raises:
        ValueError: there are fewer.
    """
    train = run.data(arguments.data, arguments.data_path).split("train")
    if count > len(train):
        raise ValueError(
            f"{count} calibration images asked for, but the training split has "
            f"{len(train)}; give --calibration-images {len(train)} or less"
        )
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:count]
    return torch.stack([train[int(index)][0] for index in chosen])


def check(snn, run, settings: Settings, arguments, device) -> None:
    """Simulate a few training images: what the audit counts, and the layer errors, come from it."""
    build = run.build
    if arguments.no_check:
        snn(
            torch.zeros(1, build["in_chans"], build["img_size"], build["img_size"], device=device),
            timesteps=1,
            readout="mean",
        )
        return
    images = training_images(run, arguments, CHECK_IMAGES, settings.seed + 1).to(device)
    snn(images, timesteps=settings.timesteps)


def say_report(snn) -> None:
    """The audit and the layer errors in short."""
    for line in str(snn.report).splitlines():
        say(line)


def run_from_weights(arguments) -> tuple:
    """A run that is not on disk yet, from a file of weights: (run, what `save_fresh_run` needs)."""
    cfg = get_config(arguments.cfg, [] if arguments.data is None else ["DATA.NAME", arguments.data])
    bundle = _setup.open_data(cfg, path=arguments.data_path)
    build = _setup.describe_build(cfg, bundle)
    network = build_network(build)
    load_published(network, arguments.weights)
    content = {
        "model": network.state_dict(),
        "model_ema": None,
        "optimizer": None,
        "epoch": 0,
        "epochs": 0,
        "kind": "qcfs",
        "build": build,
        "config": _setup.plain_dict(cfg),
        "weights": str(arguments.weights),
        "versions": _setup.versions(),
        "data": {
            "name": bundle.name,
            "note": bundle.note,
            "class_names": list(bundle.class_names),
            "splits": bundle.splits,
        },
    }
    root = Path(arguments.output)
    stem = _setup.stem_of(arguments.cfg, bundle.name)
    return _runs.Run(root / stem, cfg, content), (root, stem)


def save_fresh_run(run, place: tuple):
    """Give converted foreign weights a run folder, so that tools/eval.py finds ANN and SNN."""
    folder = claim_run_folder(*place)
    save_config(run.cfg, folder / "config.yaml")
    save_checkpoint(folder / "checkpoints" / "last.pt", run.checkpoint)
    point_latest(folder)
    return _runs.Run(folder, run.cfg, run.checkpoint)
