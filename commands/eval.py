"""Evaluate runs side by side: each network as it was trained, and its spiking conversion."""

from ..support.choices import ENERGY_MODELS, FORMATS
from . import cli


def parser() -> cli.Parser:
    """All flags."""
    this = cli.Parser(__doc__).common()
    add = this.add_argument
    add("--run", nargs="+", metavar="DIR", help="run folders (default: the latest run)")
    add(
        "--tag",
        nargs="+",
        metavar="NAME",
        help="which conversions of each run (default: its newest one)",
    )
    add(
        "--output",
        metavar="DIR",
        help="where eval.json and report.html go (default: the first run's folder)",
    )
    add("--data", metavar="NAME", help="data set (default: the runs' own)")
    add("--data-path", metavar="DIR", help="folder of the data (default: the data set's own place)")
    add(
        "--split",
        default="val",
        metavar="NAME",
        help="val: the held-out split; train; select: "
        "the part set apart by --val-fraction (default: val)",
    )
    add(
        "--limit",
        type=cli.whole_number(1, "a number of images", 100),
        metavar="IMAGES",
        help="only the first so many images (default: all)",
    )
    add(
        "--img-size",
        type=cli.whole_number(1, "an image size", 224),
        metavar="PIXELS",
        help="side of the image; the networks are built and converted anew for it (default: as "
        "trained)",
    )
    add(
        "--timesteps",
        type=cli.timestep_list,
        metavar="1,2,4,...",
        help="T whose accuracy is "
        "shown; the largest one is simulated (default: powers of two up to the conversion's T)",
    )
    add(
        "--batch-size",
        type=cli.whole_number(1, "a batch size", 100),
        metavar="IMAGES",
        help="images per batch and process (default: the recipe's)",
    )
    add(
        "--chunk",
        type=cli.whole_number(1, "a number of steps", 16),
        metavar="STEPS",
        help="steps that run as one batch; changes no result (default: chosen from memory)",
    )
    add(
        "--early-exit",
        type=cli.confidence,
        metavar="CONFIDENCE",
        help="also stop each image at "
        "the first step whose softmax reaches this, in (0, 1] (default: off)",
    )
    add(
        "--energy",
        choices=ENERGY_MODELS,
        help="energy model (default: the recipe's, 45nm-fp32)",
    )
    add(
        "--figures",
        nargs="+",
        choices=[*FORMATS, "none"],
        default=list(FORMATS),
        help="formats of the figures beside the report, which has them all (default: png pdf svg)",
    )
    return this


def command(arguments) -> None:
    """Evaluate, print one table, write eval.json and report.html."""
    from . import evaluating, text_table

    device = cli.start(arguments)
    runs = evaluating.open_runs(arguments)
    bundles = evaluating.open_bundles(arguments, runs)
    found = evaluating.Found()
    for run, bundle in zip(runs, bundles, strict=True):
        evaluating.evaluate_run(run, bundle, arguments, device, found)
    for line in text_table.overview(found.records):
        cli.say(line)
    for line in text_table.accuracy_by_timestep(found.records, arguments.timesteps):
        cli.say(line)
    evaluating.write(found, runs, bundles[0], arguments, device)
