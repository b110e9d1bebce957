"""Turn a trained QCFS network into a spiking network, and say what that costs."""

import contextlib

from ..support.choices import ATTENTIONS, CALIBRATIONS, NEURONS, READOUTS, SCALINGS
from . import cli


def parser() -> cli.Parser:
    """All flags."""
    this = cli.Parser(__doc__).common()
    add = this.add_argument
    add(
        "--run",
        metavar="DIR",
        help="run folder (default: the latest run); the checkpoint of its last epoch is converted",
    )
    add("--output", default="runs", metavar="DIR", help="where run folders lie (default: runs)")
    add(
        "--weights",
        metavar="PATH",
        help="convert published or foreign weights instead of a run; needs --cfg (default: none)",
    )
    add(
        "--cfg",
        metavar="NAME_OR_PATH",
        help="recipe of the network that --weights belongs to (no default)",
    )
    add("--data", metavar="NAME", help="data set to calibrate and check on (default: the run's)")
    add("--data-path", metavar="DIR", help="folder of the data (default: the data set's own place)")
    add(
        "--T",
        type=cli.timesteps,
        metavar="N",
        help="time steps per image; stored as the default of tools/eval.py (default: the recipe's)",
    )
    add(
        "--mask",
        type=cli.mask_ratio,
        metavar="P",
        help="share of spikes dropped at the masked sites (default: as trained)",
    )
    add(
        "--mask-scaling",
        choices=SCALINGS,
        default=None,
        help="factor on the spikes that are kept: 1, or 1 / (1 - P) (default: the recipe's)",
    )
    add(
        "--neuron",
        choices=NEURONS,
        default=None,
        help="if: {0,1} spikes; stbif: {-1,0,1}; multi: signed powers of two "
        "(default: the recipe's)",
    )
    add(
        "--attention",
        choices=ATTENTIONS,
        default=None,
        help="softmax and products on running means, or on the spikes of one step as published "
        "(default: the recipe's)",
    )
    add(
        "--readout",
        choices=READOUTS,
        default=None,
        help="average of all steps, or of steps T/2+1 to T (default: the recipe's)",
    )
    add(
        "--calibrate",
        choices=["none", *CALIBRATIONS],
        default=None,
        help="fit thresholds, or thresholds and a step-wise bias at the sites of the residual "
        "stream or everywhere, to training images (default: the recipe's)",
    )
    add(
        "--calibration-images",
        type=cli.whole_number(1, "a number of images", 300),
        metavar="N",
        help="training images that a calibration sees (default: the recipe's)",
    )
    add(
        "--tag", metavar="NAME", help="name of the conversion (default: neuron, attention, T, mask)"
    )
    add(
        "--no-check",
        action="store_true",
        help="leave out the proof on three steps of noise and the comparison with the ANN on "
        "training images (default: both are made)",
    )
    return this


def command(arguments) -> None:
    """Convert, check, save; the tag folder appears only when all of it is written."""
    from . import conversion, conversion_check, run_on_disk, weights

    device = cli.start(arguments)
    conversion.check_arguments(arguments)
    foreign = arguments.weights is not None
    run = (
        weights.open_weights(arguments)
        if foreign
        else run_on_disk.open_run(arguments.run, arguments.output)
    )
    if foreign and run.kind == "direct":
        with weights.run_folder(run) as run:
            pass
        cli.say(f"{run.build['model']} spikes already: there is nothing to convert")
        cli.say(f"run folder: {run.folder}")
        cli.say(f"next: python tools/eval.py --run {run.folder}")
        return
    if run.kind != "qcfs":
        raise ValueError(
            f"run {run.folder} has no QCFS activations to convert (it was trained by "
            "tools/train_direct.py); evaluate it as it is with python tools/eval.py --run DIR"
        )
    settings = conversion.settle(arguments, run)
    tag = arguments.tag or conversion.default_tag(settings)
    conversion.check_tag(tag)
    source = arguments.weights if foreign else run.folder
    cli.say(f"converting {source} ({run.build['model']}, epoch {run.checkpoint['epoch']})")
    cli.say_settings(settings.shown())
    conversion.warn(settings, run)
    snn, prepared = conversion.convert(run, settings, arguments, device)
    report = conversion_check.check(snn, prepared, run, settings, arguments, device)
    with weights.run_folder(run) if foreign else contextlib.nullcontext(run) as run:
        folder = run.folder / "snn" / tag
        conversion.save(snn, folder, settings, run, report)
    cli.say(f"conversion: {folder}")
    named = arguments.run is not None or arguments.output != "runs"
    cli.say("next: python tools/eval.py" + (f" --run {run.folder}" if named else ""))
    conversion_check.say_report(snn, report)
