"""Speed and memory: the network's forward pass against its spiking conversion, step by step."""

from ..support.choices import ATTENTIONS, NEURONS
from . import cli


def parser() -> cli.Parser:
    """All flags."""
    this = cli.Parser(__doc__).common()
    add = this.add_argument
    add(
        "--cfg",
        default="swin_nano_bn.yaml",
        metavar="NAME_OR_PATH",
        help="recipe of the network; its weights are random, which changes no dense cost but the "
        "spikes (default: swin_nano_bn.yaml)",
    )
    add("--run", metavar="DIR", help="a trained run instead of --cfg (default: none)")
    add("--neuron", choices=NEURONS, default="if", help="(default: if)")
    add(
        "--attention",
        choices=ATTENTIONS,
        default="accumulated",
        help="softmax and products on running means, or on one step (default: accumulated)",
    )
    add("--mask", type=cli.mask_ratio, metavar="P", help="mask ratio (default: as trained)")
    add(
        "--batch-size",
        type=cli.whole_number(1, "a batch size", 16),
        default=16,
        metavar="IMAGES",
        help="images per batch (default: 16)",
    )
    add(
        "--timesteps",
        type=cli.timestep_list,
        default=[8, 32],
        metavar="8,32,...",
        help="T to measure (default: 8,32)",
    )
    add(
        "--chunk",
        type=cli.whole_number(1, "a number of steps", 16),
        metavar="STEPS",
        help="steps that run as one batch (default: chosen from memory)",
    )
    add(
        "--repeats",
        type=cli.whole_number(1, "a number of repeats", 5),
        default=5,
        metavar="N",
        help="measurements, of which the median counts (default: 5)",
    )
    add(
        "--threads",
        type=cli.whole_number(1, "a number of threads", 1),
        metavar="N",
        help="CPU threads (default: PyTorch's)",
    )
    add("--json", metavar="PATH", help="also write the numbers here (default: only printed)")
    return this


def command(arguments) -> None:
    """Measure in turns, print a table, write JSON if asked."""
    from ..train import write_file
    from . import bench_measure, text_table

    device = cli.start(arguments)
    result = bench_measure.measure(arguments, device)
    for line in text_table.aligned(bench_measure.rows(result)):
        cli.say(line)
    if arguments.json:
        write_file(arguments.json, bench_measure.as_json(result))
        cli.say(f"numbers: {arguments.json}")
