"""The comparison table of several models: columns once, then HTML, Markdown, CSV and LaTeX."""

import csv
import dataclasses
import io
from collections.abc import Callable, Sequence

KINDS = {"ann": "ANN", "converted": "converted", "direct": "direct"}
MISSING = "–"
_SPACE = "\u00a0"  # a number and its unit stay on one line


@dataclasses.dataclass(frozen=True)
class Column:
    """One column: its heading with unit, what it shows, and how the heading reads in full."""

    key: str
    heading: str
    show: Callable[[dict], str]
    meaning: str


def number(value: float | None, digits: int = 3) -> str:
    """A count in short: 33.6 M."""
    if value is None:
        return MISSING
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{_digits(value / size, digits)}{_SPACE}{letter}"
    return _digits(value, digits)


def _digits(value: float, digits: int) -> str:
    if value == 0:
        return "0"
    text = f"{value:#.{digits}g}"
    if "e" in text:
        return f"{value:.{digits - 1}e}"
    return text.rstrip(".")


def energy(millijoules: float | None) -> str:
    """Energy with the unit that fits: 74.0 µJ."""
    if millijoules is None:
        return MISSING
    for size, unit in ((1e3, "J"), (1.0, "mJ"), (1e-3, "µJ"), (1e-6, "nJ")):
        if abs(millijoules) >= size * 0.9995:
            return f"{_digits(millijoules / size, 3)}{_SPACE}{unit}"
    return f"{_digits(millijoules * 1e9, 3)}{_SPACE}pJ"


def percent(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def times(value: float | None) -> str:
    return MISSING if value is None else f"{_digits(value, 3)}{_SPACE}×"


def plain(value) -> str:
    return MISSING if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def alphabet(values: Sequence[int] | None) -> str:
    """Spike values in short: {0, 1}, {-16 … 16}."""
    if not values:
        return MISSING
    listed = [str(v) for v in values]
    if len(listed) > 5:
        listed = [listed[0], "…", listed[-1]]
    return "{" + ",".join(listed) + "}"


def neuron(record: dict) -> str:
    if record["kind"] == "ann":
        return MISSING
    return f"{plain(record['neuron'])} {alphabet(record['spike_values'])}"


def _independent(record: dict) -> str:
    value = record["batch_independent"]
    return "yes" if value is True else "not checked" if value is None else "NO"


def parameters(record: dict) -> str:
    """Weights, and apart what a calibration fitted: 27.5 M + 1.57 M."""
    fitted = sum((record.get("calibration_parameters") or {}).values())
    return number(record["parameters"]) + (f" + {number(fitted)}" if fitted else "")


COLUMNS: tuple[Column, ...] = (
    Column("name", "Model", lambda r: r["name"], "name of the model"),
    Column("kind", "Kind", lambda r: KINDS[r["kind"]], "ANN, converted or trained directly"),
    Column(
        "parameters",
        "Params",
        parameters,
        "trainable numbers; + thresholds and step-wise bias that a calibration fitted",
    ),
    Column("neuron", "Neuron", neuron, "spiking neuron and what it may send in one step"),
    Column("timesteps", "T", lambda r: plain(r["timesteps"]), "time steps"),
    Column("mask", "Mask", lambda r: plain(r["mask"]), "ratio of spikes that random masks drop"),
    Column("top1", "Top-1, %", lambda r: percent(r["top1"]), "share of right first answers"),
    Column("top5", "Top-5, %", lambda r: percent(r["top5"]), "right answer among the first five"),
    Column(
        "random",
        "Random masks, %",
        lambda r: percent(r.get("top1_random_masks")),
        "top-1 of an ANN: masks drawn at random, as published, instead of at their expectation",
    ),
    Column(
        "agreement",
        "Agrees, %",
        lambda r: percent(r["agreement_with_ann"]),
        "share of images (of a dense output: of places) with the same answer as the ANN",
    ),
    Column(
        "error",
        "Error",
        lambda r: plain_digits(r.get("error_to_ann")),
        "relative error of the outputs against those of the ANN",
    ),
    Column("macs", "MACs", lambda r: number(r["macs"]), "multiply-accumulates per image"),
    Column(
        "acs",
        "ACs",
        lambda r: MISSING if r["kind"] == "ann" else number(r["acs"]),
        "synaptic operations (accumulations) per image",
    ),
    Column(
        "energy",
        "Energy",
        lambda r: energy(r["energy_millijoules"]),
        "energy per image under the energy model",
    ),
    Column(
        "ratio",
        "Energy / quantised",
        lambda r: times(r["energy_to_quantised"]),
        "energy over that of the network's own quantised twin, run once; above 1 the SNN loses",
    ),
    Column(
        "per_synapse",
        "Spikes/ synapse",
        lambda r: plain_digits(r["spikes_per_synapse"]),
        "accumulations per image over synapses after spikes",
    ),
    Column(
        "independent",
        "Independent",
        _independent,
        "whether an image's answer is the same in any company in the batch",
    ),
    Column(
        "speed",
        "Images / s",
        lambda r: number(r["images_per_second"]),
        "simulation speed on this machine",
    ),
)


def shown_columns(records: Sequence[dict]) -> list[Column]:
    """The columns that say something of at least one model."""
    return [c for c in COLUMNS if any(c.show(record) != MISSING for record in records)]


def plain_digits(value: float | None) -> str:
    return MISSING if value is None else _digits(value, 3)


def as_markdown(records: Sequence[dict]) -> str:
    shown = shown_columns(records)
    lines = [[column.heading for column in shown], ["---"] * len(shown)]
    lines += [[column.show(record) for column in shown] for record in records]
    return "".join(f"| {' | '.join(c.replace('|', '/') for c in line)} |\n" for line in lines)


def as_csv(records: Sequence[dict]) -> str:
    """Unrounded values under the keys of eval.json."""
    keys = (
        "name",
        "kind",
        "run",
        "parameters",
        "timesteps",
        "neuron",
        "spike_values",
        "attention",
        "readout",
        "mask",
        "top1",
        "top5",
        "top1_random_masks",
        "agreement_with_ann",
        "macs",
        "acs",
        "energy_millijoules",
        "energy_model",
        "energy_to_quantised",
        "spikes_per_synapse",
        "batch_independent",
        "images_per_second",
        "error_to_ann",
    )
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(keys)
    for record in records:
        writer.writerow(["" if record.get(key) is None else record[key] for key in keys])
    return out.getvalue()


def as_latex(records: Sequence[dict]) -> str:
    """A booktabs table."""
    shown = [c for c in shown_columns(records) if c.key not in ("speed", "independent")]
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{tabular}{" + "l" * 2 + "r" * (len(shown) - 2) + "}",
        r"\toprule",
        " & ".join(latex(c.heading) for c in shown) + r" \\",
        r"\midrule",
    ]
    for record in records:
        lines.append(" & ".join(latex(c.show(record)) for c in shown) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def latex(text: str) -> str:
    """Text with what LaTeX reads as commands escaped."""
    for old, new in (
        ("\\", r"\textbackslash "),
        ("&", r"\&"),
        ("%", r"\%"),
        ("_", r"\_"),
        ("{", r"\{"),
        ("}", r"\}"),
        ("#", r"\#"),
        ("–", "--"),
        ("×", r"$\times$"),
        ("µ", r"$\mu$"),
        ("…", r"\dots "),
        (_SPACE, "~"),
    ):
        text = text.replace(old, new)
    return text
