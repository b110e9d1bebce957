"""Write a conversion for another simulator or chip, read it back there, and grade what it does."""

from ..support.choices import TARGETS
from . import cli


def parser() -> cli.Parser:
    """All flags."""
    this = cli.Parser(__doc__).common()
    add = this.add_argument
    add("--run", metavar="DIR", help="run folder (default: the latest run)")
    add("--tag", metavar="NAME", help="which conversion (default: the newest one of the run)")
    add(
        "--to",
        choices=TARGETS,
        default="nir",
        help="whose file: nir (any reader of NIR), or a simulator (default: nir)",
    )
    add(
        "--bits",
        type=int,
        choices=(32, 16, 8),
        default=32,
        help="of the weights: 32 (float), or integers on one scale with the threshold (default: 32)",
    )
    add(
        "--start",
        choices=("state", "bias"),
        default="state",
        help="how neurons start half full: as a state that the file names, or by a bias in T steps "
        "(default: state)",
    )
    add(
        "--T",
        type=cli.timesteps,
        metavar="N",
        help="time steps per image (default: the conversion's)",
    )
    add(
        "--images",
        type=cli.whole_number(1, "a number of images", 100),
        default=100,
        metavar="N",
        help="of the held-out split, that both sides run (default: 100)",
    )
    add("--data", metavar="NAME", help="data set (default: the run's own)")
    add("--data-path", metavar="DIR", help="folder of the data (default: the data set's own place)")
    add(
        "--python",
        metavar="PATH",
        help="interpreter that has the target's packages (default: this one; for sinabs the one that "
        "`make deploy-check` made)",
    )
    add(
        "--output",
        metavar="DIR",
        help="a new folder (default: export/<target> in the run's folder)",
    )
    return this


def command(arguments) -> None:
    """Export, print the grade, and what chips would hold the network."""
    from pathlib import Path

    from tqdm import tqdm

    from .. import snn as networks
    from ..export import export, fit
    from ..train import find_conversion
    from . import exporting, run_on_disk

    device = cli.start(arguments)
    run = run_on_disk.open_run(arguments.run)
    if not run.converts:
        raise ValueError(
            f"run {run.folder} was trained directly; export takes conversions "
            "(tools/convert.py --neuron if --mask 0)"
        )
    folder = find_conversion(run.folder, arguments.tag)
    output = Path(arguments.output or run.folder / "export" / arguments.to)
    snn = networks.load(folder).to(device)
    images, labels = exporting.images(run, arguments)
    images = images.to(device)
    cli.say(f"exporting {folder} to {arguments.to}, {arguments.bits} bits")
    record = export(
        snn,
        output,
        arguments.to,
        arguments.bits,
        images,
        labels=labels,
        timesteps=arguments.T,
        start=arguments.start,
        python=arguments.python or exporting.python_for(arguments.to),
        progress=lambda batches: tqdm(batches, unit="batch", disable=None),
    )
    for line in exporting.lines(record):
        cli.say(line)
    for line in fit.lines(record["fit"]):
        cli.say(line)
    cli.say(f"written: {output}")
