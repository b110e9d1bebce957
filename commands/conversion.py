"""Settings of a conversion, and the conversion itself, for tools/convert.py."""

from dataclasses import asdict, dataclass, field

from ..convert import convert_model
from ..convert.api import sites_of
from ..distributed import world_size
from ..graph import Prepared, prepare
from ..neurons import NEURONS
from ..support.versions import versions
from ..train import new_folder
from . import setting_up
from .cli import say
from .setting_up import training_images


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


def check_arguments(arguments, own: bool) -> None:
    """Refuse combinations that mean nothing, before any work.

    Args:
        own: the network is one of another library.
    """
    if world_size() > 1:
        raise ValueError(
            "tools/convert.py is no work for several processes; start it without torchrun"
        )
    if own:
        return
    for name in ("sites", "method", "levels", "classes", "img_size", "mean", "std"):
        if getattr(arguments, name) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} belongs to --timm, --torchvision or --model: what was "
                "trained with QCFS keeps its sites, levels and inputs; leave it out"
            )
    if arguments.weights is None and arguments.cfg is not None:
        raise ValueError(
            "--cfg belongs to --weights PATH; a run keeps its own recipe, name it with --run DIR"
        )
    if arguments.weights is not None and arguments.cfg is None:
        raise ValueError(
            "--weights needs its network; give --cfg NAME (a recipe, e.g. mst_swin_t.yaml), --timm "
            "NAME, --torchvision NAME or --model PACKAGE.MODULE:FUNCTION"
        )
    if arguments.weights is not None and arguments.run is not None:
        raise ValueError("--run and --weights name two networks; give one of them")


def settle(arguments, run) -> Settings:
    """Flags first, then the run's recipe; what the neuron's coding does not have falls away."""
    cfg, origins = run.cfg, {}

    def choose(name: str, key: str, given):
        origins[name] = setting_up.origin(cfg, key, given)
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
    coding = NEURONS[values["neuron"]].coding
    always = "thresholds" if run.kind == "own" else "none"  # without QCFS images are needed
    for name, known in (
        ("attention", coding.attentions),
        ("readout", coding.readouts),
        ("calibrate", (always, *coding.calibrations)),
    ):
        if getattr(arguments, name) is None and values[name] not in known:
            values[name], origins[name] = next(iter(known)), f"the only one for {values['neuron']}"
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


def convert(run, settings: Settings, arguments, device, prepared: Prepared | None = None):
    """(the spiking network on `device`, what it was made of, prepared).

    Args:
        prepared: what an earlier call with the same sites gave.
    """
    calibration, extra = None, {}
    if settings.calibrate != "none":
        data = run.data(arguments.data, arguments.data_path)
        count = settings.calibration_images
        if arguments.calibration_images is None:
            count = min(count, len(data.split("train")))
        images = training_images(data, count, settings.seed)
        calibration = [batch.to(device) for batch in images.split(50)]
        extra = {"calibrate": settings.calibrate}
        if settings.calibrate != "thresholds" or run.kind != "own":
            extra["calibration_steps"] = settings.timesteps
    extra |= {
        name: getattr(arguments, name)
        for name in ("sites", "method", "levels")
        if getattr(arguments, name) is not None
    }
    example = calibration[0] if calibration else None
    sites = sites_of(extra.get("sites", "auto"), settings.neuron)
    if prepared is None:
        network = run.network().to(device)
        prepared = prepare(network, example_inputs=example, sites=sites)
    snn = convert_model(
        prepared,
        neuron=settings.neuron,
        attention=settings.attention,
        mask=settings.mask,
        mask_scaling=settings.mask_scaling,
        mask_sites=run.build.get("mask_sites") or None,
        readout=settings.readout,
        seed=settings.seed,
        calibration=calibration,
        check=not arguments.no_check,
        **extra,
    ).to(device)
    snn.info.timesteps = settings.timesteps
    return snn, prepared


def save(snn, folder, settings: Settings, run, report) -> None:
    """Write a conversion to a temporary folder, then rename; an older one of that name survives."""
    with new_folder(folder) as temporary:
        snn.save(
            temporary,
            report=report,
            **settings.plain(),
            model=run.build["model"],
            epoch=run.checkpoint["epoch"],
            versions=versions(),
        )
