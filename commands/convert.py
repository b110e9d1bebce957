"""Turn a trained QCFS network into a spiking network, and say what that costs."""

import contextlib

from ..support.choices import (
    ATTENTIONS,
    CALIBRATIONS,
    METHODS,
    NEURONS,
    READOUTS,
    SCALINGS,
    SITES,
)
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
        help="convert published or foreign weights instead of a run; needs --cfg, --timm, "
        "--torchvision or --model (default: none)",
    )
    add(
        "--cfg",
        metavar="NAME_OR_PATH",
        help="recipe of the network that --weights belongs to (no default)",
    )
    for name, what in (
        ("--timm", "a network of timm"),
        ("--torchvision", "a network of torchvision"),
        ("--model", "what a function of yours makes, PACKAGE.MODULE:FUNCTION"),
    ):
        add(
            name,
            metavar="NAME" if name != "--model" else "PACKAGE.MODULE:FUNCTION",
            help=f"convert {what} instead of a run, with --weights FILE or the library's own "
            "pretrained weights; needs --data (no default)",
        )
    add("--weights-prefix", default="", metavar="TEXT", help="prefix of the names in --weights that "
        'is taken off, e.g. "backbone." (default: none)')  # fmt: skip
    add("--classes", type=cli.whole_number(1, "a number of classes", 10), metavar="N", help="classes "
        "of --timm or --torchvision (default: as the library makes it)")  # fmt: skip
    add("--img-size", type=cli.whole_number(8, "a size in pixels", 224), metavar="N", help="side of "
        "the images of such a network (default: as its library says, or 224)")  # fmt: skip
    add("--mean", type=cli.numbers, metavar="R,G,B", help="mean of each channel that its images are "
        "normalised with, for pixels in [0, 1] (default: as its library says)")  # fmt: skip
    add("--std", type=cli.numbers, metavar="R,G,B", help="standard deviation of each channel "
        "(default: as its library says)")  # fmt: skip
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
        "--sites",
        choices=SITES,
        default=None,
        help="of a network without QCFS: in place of ReLU, or in front of every layer with weights and "
        "every product (default: all, relu for --neuron if)",
    )
    add(
        "--method",
        choices=["auto", *METHODS],
        default=None,
        help="of a network without QCFS: how thresholds are taken from images; auto compares on "
        "held-back ones (default: auto)",
    )
    add(
        "--levels",
        type=cli.whole_number(1, "a number of levels", 64),
        metavar="N",
        help="of a network without QCFS: levels L (default: chosen out of 16 to 256)",
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
    from . import conversion, conversion_check, run_on_disk, strangers, weights

    device = cli.start(arguments)
    own = strangers.door_of(arguments) is not None
    conversion.check_arguments(arguments, own)
    foreign = own or arguments.weights is not None
    if own:
        run = strangers.open_stranger(arguments)
    elif foreign:
        run = weights.open_weights(arguments)
    else:
        run = run_on_disk.open_run(arguments.run, arguments.output)
    if foreign and run.kind == "direct":
        with weights.run_folder(run) as run:
            pass
        cli.say(f"{run.build['model']} spikes already: there is nothing to convert")
        cli.say(f"run folder: {run.folder}")
        cli.say(f"next: python tools/eval.py --run {run.folder}")
        return
    if not run.converts:
        raise ValueError(
            f"run {run.folder} has no QCFS activations to convert (it was trained by "
            "tools/train_direct.py); evaluate it as it is with python tools/eval.py --run DIR"
        )
    settings = conversion.settle(arguments, run)
    tag = arguments.tag or conversion.default_tag(settings)
    conversion.check_tag(tag)
    source = run.checkpoint["weights"] if foreign else run.folder
    epoch = "" if own else f", epoch {run.checkpoint['epoch']}"
    cli.say(f"converting {source} ({run.build['model']}{epoch})")
    cli.say_settings(settings.shown())
    conversion.warn(settings, run)
    snn, prepared = conversion.convert(run, settings, arguments, device)
    report = conversion_check.check(snn, prepared, run, settings, arguments, device)
    opened = run
    with weights.run_folder(run) if foreign else contextlib.nullcontext(run) as run:
        folder = run.folder / "snn" / tag
        conversion.save(snn, folder, settings, run, report)
    cli.say(f"conversion: {folder}")
    named = arguments.run is not None or arguments.output != "runs"
    cli.say("next: python tools/eval.py" + (f" --run {run.folder}" if named else ""))
    conversion_check.say_report(snn, report)
    if own and not arguments.no_check:
        strangers.say_comparison(snn, opened, arguments, settings, device)
