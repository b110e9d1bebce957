"""Show the report of a trained network that comes with the package, and of two conversions of it."""

import shutil
from pathlib import Path

from . import cli

NETWORK = "swin_nano_bn_mnist5k"
IMAGES = 20  # of the held-out digits: enough for a first report


def parser() -> cli.Parser:
    """All flags."""
    this = cli.Parser(__doc__).common()
    this.add_argument(
        "--output", default="runs", metavar="DIR", help="where run folders lie (default: runs)"
    )
    this.add_argument(
        "--limit",
        type=cli.whole_number(1, "a number of images", IMAGES),
        default=IMAGES,
        metavar="IMAGES",
        help=f"only the first so many held-out digits; 1000 are all (default: {IMAGES})",
    )
    return this


def command(arguments) -> None:
    """Copy the run folder, evaluate it as tools/eval.py does, and say what to try next."""
    import torch

    from ..train import conversions_of
    from . import eval as evaluation

    if arguments.device in ("auto", "cpu"):
        torch.set_num_threads(1)  # on tensors as small as these, two take longer
    folder = own_copy(Path(arguments.output))
    words = ["--run", str(folder), "--limit", str(arguments.limit), "--device", arguments.device]
    words += ["--figures", "none"]  # the page has them all; files of them are for papers
    words += ["--seed", str(arguments.seed)] if arguments.seed is not None else []
    words += ["--tag", *sorted(conversions_of(folder))]
    evaluation.command(evaluation.parser().parse_args(words))
    _say_card()
    cli.say(f"next: python -m spikeswap convert --run {folder} --neuron stbif --T 16")


def _say_card() -> None:
    """What the same networks reach on all held-out images, from the card."""
    from ..pretrained import pretrained_card

    card = pretrained_card(NETWORK)
    rows = []
    for row in card["records"]:
        name = f"{row['neuron']}, T = {row['timesteps']}" if row["neuron"] else "ANN"
        rows.append(f"{name} {row['top1']:.2f} %")
    cli.say(
        f"all {card['images']:,} held-out digits, as measured on {card['date']}: " + "; ".join(rows)
    )


def own_copy(root: Path) -> Path:
    """The run folder in `root`: one that an earlier call made, if its weights are still the same."""
    from ..pretrained import pretrained_run
    from ..train import CannotWriteError, checkpoint_of, claim_run_folder, runs_of

    source = pretrained_run(NETWORK)
    weights = checkpoint_of(source).read_bytes()
    for folder in runs_of(root, NETWORK):
        copied = folder / checkpoint_of(source).relative_to(source)
        if copied.is_file() and copied.read_bytes() == weights:
            return folder
    folder = claim_run_folder(root, NETWORK)
    try:
        shutil.copytree(source, folder, dirs_exist_ok=True)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise CannotWriteError(folder, error) from error
        raise
    return folder
