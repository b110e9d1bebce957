"""Turn a trained QCFS network into a spiking network, and say what that costs."""

import contextlib

import _cli


def parser() -> _cli.Parser:
    """All flags."""
    this = _cli.Parser(__doc__).common()
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
        type=_cli.timesteps,
        metavar="N",
        help="time steps an image; stored as the default of tools/eval.py (default: the recipe's)",
    )
    add(
        "--mask",
        type=_cli.mask_ratio,
        metavar="P",
        help="share of spikes dropped at the masked sites (default: as trained)",
    )
    add(
        "--mask-scaling",
        choices=["none", "inverse"],
        default=None,
        help="factor on the spikes that are kept: 1, or 1 / (1 - P) (default: the recipe's)",
    )
    add(
        "--neuron",
        choices=["if", "stbif", "multi"],
        default=None,
        help="if: {0,1} spikes; stbif: {-1,0,1}; multi: signed powers of two "
        "(default: the recipe's)",
    )
    add(
        "--attention",
        choices=["accumulated", "per-step"],
        default=None,
        help="softmax and products on running means, or on the spikes of one step as published "
        "(default: the recipe's)",
    )
    add(
        "--readout",
        choices=["mean", "second-half"],
        default=None,
        help="average of all steps, or of steps T/2+1 to T (default: the recipe's)",
    )
    add(
        "--calibrate",
        choices=["none", "thresholds", "bias", "bias-everywhere"],
        default=None,
        help="fit thresholds, or thresholds and a step-wise bias at the sites of the residual "
        "stream or everywhere, to training images (default: the recipe's)",
    )
    add(
        "--calibration-images",
        type=_cli.whole_number(1, "a number of images", 300),
        metavar="N",
        help="training images that a calibration sees (default: the recipe's)",
    )
    add(
        "--tag", metavar="NAME", help="name of the conversion (default: neuron, attention, T, mask)"
    )
    add(
        "--no-check",
        action="store_true",
        help="leave out the comparison with the ANN on training images (default: it is made)",
    )
    return this


def command(arguments) -> None:
    """Convert, check, save; the tag folder appears only when all of it is written."""
    import _check
    import _conversion
    import _runs
    import _weights

    device = _cli.start(arguments)
    _conversion.check_arguments(arguments)
    foreign = arguments.weights is not None
    run = (
        _weights.open_weights(arguments)
        if foreign
        else _runs.open_run(arguments.run, arguments.output)
    )
    if foreign and run.kind == "direct":
        with _weights.run_folder(run) as run:
            pass
        _cli.say(f"{run.build['model']} spikes already: there is nothing to convert")
        _cli.say(f"run folder: {run.folder}")
        _cli.say(f"next: python tools/eval.py --run {run.folder}")
        return
    if run.kind != "qcfs":
        raise ValueError(
            f"run {run.folder} has no QCFS activations to convert (it was trained by "
            "tools/train_direct.py); evaluate it as it is with python tools/eval.py --run DIR"
        )
    settings = _conversion.settle(arguments, run)
    tag = arguments.tag or _conversion.default_tag(settings)
    _conversion.check_tag(tag)
    source = arguments.weights if foreign else run.folder
    _cli.say(f"converting {source} ({run.build['model']}, epoch {run.checkpoint['epoch']})")
    _cli.say_settings(settings.shown())
    _conversion.warn(settings, run)
    snn = _conversion.convert(run, settings, arguments, device)
    _check.check(snn, run, settings, arguments, device)
    with _weights.run_folder(run) if foreign else contextlib.nullcontext(run) as run:
        folder = run.folder / "snn" / tag
        _conversion.save(snn, folder, settings, run)
    _cli.say(f"conversion: {folder}")
    named = arguments.run is not None or arguments.output != "runs"
    _cli.say("next: python tools/eval.py" + (f" --run {run.folder}" if named else ""))
    _check.say_report(snn)


if __name__ == "__main__":
    _cli.run_command(command, parser())
