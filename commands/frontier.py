"""Try many conversions of a run on images set apart, and say which one is the cheapest good one."""

import argparse

from ..support.choices import ENERGY_MODELS, NEURONS
from . import cli

IMAGES = 400


def _neuron_list(text: str) -> list[str]:
    names = [part.strip() for part in text.split(",")]
    try:
        return [NEURONS.check(name) for name in dict.fromkeys(names)]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parser() -> cli.Parser:
    """All flags."""
    this = cli.Parser(__doc__).common()
    add = this.add_argument
    add("--run", metavar="DIR", help="run folder (default: the latest run)")
    add(
        "--within",
        type=cli.real_number(0, 100, "a loss of accuracy in points"),
        default=0.5,
        metavar="POINTS",
        help="loss against the ANN that is accepted, in points of top-1 accuracy (default: 0.5)",
    )
    add(
        "--timesteps",
        type=cli.timestep_list,
        metavar="1,2,4,...",
        help="T to try, all of them (default: powers of two up to the recipe's, each neuron only as "
        "far as more steps can win)",
    )
    add(
        "--neurons",
        type=_neuron_list,
        default=list(reversed(NEURONS)),
        metavar="NAME,...",
        help=f"neurons to try, of {', '.join(NEURONS)} (default: all)",
    )
    add(
        "--limit",
        type=cli.whole_number(1, "a number of images", IMAGES),
        default=IMAGES,
        metavar="IMAGES",
        help=f"only the first so many images of the part (default: {IMAGES})",
    )
    add("--data", metavar="NAME", help="data set (default: the run's own)")
    add("--data-path", metavar="DIR", help="folder of the data (default: the data set's own place)")
    add(
        "--batch-size",
        type=cli.whole_number(1, "a batch size", 100),
        metavar="IMAGES",
        help="images per batch (default: the recipe's)",
    )
    add("--energy", choices=ENERGY_MODELS, help="energy model (default: the recipe's, 45nm-fp32)")
    return this


def command(arguments) -> None:
    """Search, write frontier.json and the figure into the run's folder, print the advice."""
    from . import frontier_search

    device = cli.start(arguments)
    search = frontier_search.Search(arguments, device)
    search.run_all()
    search.finish()
