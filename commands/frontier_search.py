"""The steps of tools/frontier.py: which settings are tried, on which images, and what is written.

The held-out split that is reported never takes part: the images are those that the run set apart
(--val-fraction), or training images where it set none apart, and then that is said.
"""

import dataclasses
import shlex

from .. import evaluate as evaluation
from ..convert.api import sites_of
from ..distributed import world_size
from ..evaluate.frontier import advice, cheapest, mark_frontier, standard_error
from ..graph import Prepared
from ..neurons import NEURONS
from ..report import frontier_figure
from ..support.versions import versions
from ..train import new_files
from . import conversion, convert, run_on_disk, strangers
from .cli import say
from .frontier_file import write_frontier
from .text_table import aligned

CALIBRATIONS = ("none", "thresholds", "bias")


@dataclasses.dataclass(frozen=True)
class Series:
    """Settings that differ in T alone."""

    neuron: str
    mask: float
    calibrate: str
    readout: str

    def flags(self, timesteps: int) -> list[str]:
        """Of tools/convert.py."""
        words = {"neuron": self.neuron, "T": timesteps, "mask": f"{self.mask:g}"}
        words |= {"calibrate": self.calibrate}
        words |= {"readout": self.readout} if self._several_readouts else {}
        return [word for key, value in words.items() for word in (f"--{key}", str(value))]

    def words(self, timesteps: int) -> str:
        """For a table."""
        parts = [self.neuron, f"T = {timesteps}", f"mask {self.mask:g}"]
        parts += [f"calibrated {self.calibrate}"] if self.calibrate != "none" else []
        parts += [f"readout {self.readout}"] if self._several_readouts else []
        return ", ".join(parts)

    @property
    def _several_readouts(self) -> bool:
        return len(NEURONS[self.neuron].coding.readouts) > 1


def all_series(run, neurons: list[str]) -> list[Series]:
    """Every neuron with the masks, calibrations and readouts that it can have."""
    trained = run.build.get("mask") or 0.0
    found = []
    for neuron in neurons:
        coding = NEURONS[neuron].coding
        calibrations = [c for c in CALIBRATIONS if c == "none" or c in coding.calibrations]
        if run.kind == "own":  # its thresholds come from images
            calibrations = [c for c in calibrations if c != "none"] or ["thresholds"]
        found += [
            Series(neuron, mask, calibrate, readout)
            for mask in sorted({0.0, trained}, reverse=True)
            for calibrate in calibrations
            for readout in coding.readouts
        ]
    return found


class Search:
    """Settings of one run, tried one after another.

    Args:
        arguments: of tools/frontier.py.

    Raises:
        ValueError: a run that is not converted, or whose accuracy cannot be known.
    """

    def __init__(self, arguments, device):
        if world_size() > 1:
            raise ValueError("tools/frontier.py is work for one process; start it without torchrun")
        self.arguments, self.device = arguments, device
        self.run = run = run_on_disk.open_run(arguments.run)
        if not run.converts:
            raise ValueError(f"run {run.folder} has no QCFS activations, so nothing is converted; "
                             "give a run of tools/train_qcfs.py")  # fmt: skip
        self.bundle = run.data(arguments.data, arguments.data_path)
        if run.kind == "own" and (
            run.build.get("source") == "function" or not strangers.labelled(run, self.bundle)
        ):
            raise ValueError(
                f"the classes of run {run.folder} are not those of {self.bundle.name}, so no accuracy "
                "is known; give data with its classes (--data NAME --data-path DIR)"
            )
        self.part = "select" if self.bundle.select is not None else "train"
        self.images = min(arguments.limit, len(self.bundle.split(self.part)))
        self.energy = arguments.energy or run.cfg.EVAL.ENERGY
        self.network = run.network().to(device)
        self.rows: list[dict] = []
        self.skipped = 0
        self.prepared: dict[str, Prepared] = {}
        self.ann = self._record(self.network, name="ANN")

    def timesteps(self) -> list[int]:
        """T in rising order."""
        if self.arguments.timesteps:
            return self.arguments.timesteps
        last = self.run.cfg.CONVERT.TIMESTEPS
        return sorted({*(2**i for i in range(2, last.bit_length()) if 2**i <= last), last})

    def run_all(self) -> None:
        """Every series, as far as more steps can win."""
        if self.part == "train":
            say(
                "the run set no images apart, so training images are used, which it knows: expect "
                "less loss here than on new images (train with --val-fraction 0.1 to avoid that)"
            )
        say(f"{self.run.folder}: {self.images} images of the {self.part} part of {self.bundle.name}, "
            f"ANN {self.ann['top1']:.2f} %")  # fmt: skip
        for series in all_series(self.run, self.arguments.neurons):
            for timesteps in self.timesteps():
                row = self._try(series, timesteps)
                self.rows.append(row)
                say(f"  {row['setting']}: {row['top1']:.2f} %, {_millijoules(row)}")
                if not self.arguments.timesteps and self._cannot_win(row):
                    self.skipped += sum(t > timesteps for t in self.timesteps())
                    break
        mark_frontier(self.rows)

    def _cannot_win(self, row: dict) -> bool:
        """More steps cost more: what is as good as the ANN, or dearer than something that is."""
        spent = row["energy_millijoules"]
        good = [r["energy_millijoules"] for r in self.rows if r["loss"] <= 0]
        return spent is not None and any(e is not None and e <= spent for e in good)

    def _try(self, series: Series, timesteps: int) -> dict:
        words = self._flags(series, timesteps)
        flags = convert.parser().parse_args([*words, "--no-check"])
        settings = conversion.settle(flags, self.run)
        sites = sites_of("auto", series.neuron)
        snn, self.prepared[sites] = conversion.convert(
            self.run, settings, flags, self.device, self.prepared.get(sites)
        )
        setting = series.words(timesteps)
        record = self._record(snn, name=setting, timesteps=timesteps, ann=self.network)
        rate = record["images_per_second"]
        return {
            **dataclasses.asdict(series),
            "timesteps": timesteps,
            "setting": setting,
            "top1": record["top1"],
            "loss": self.ann["top1"] - record["top1"],
            "standard_error": standard_error(record["agreement_with_ann"], self.images),
            "agreement_with_ann": record["agreement_with_ann"],
            "energy_millijoules": record["energy_millijoules"],
            "energy_to_quantised": record["energy_to_quantised"],
            "synaptic_operations": record["synaptic_operations"],
            "seconds_per_image": 1 / rate if rate else None,
            "command": f"python tools/convert.py {shlex.join(words)}",
        }

    def _flags(self, series: Series, timesteps: int) -> list[str]:
        """Of tools/convert.py: the setting, and what this command was given."""
        words = ["--run", str(self.run.folder), *series.flags(timesteps)]
        for name in ("data", "data_path", "seed"):
            given = getattr(self.arguments, name)
            words += [f"--{name.replace('_', '-')}", str(given)] if given is not None else []
        return words

    def _record(self, model, **more) -> dict:
        loader = self.bundle.eval_loader(
            self.arguments.batch_size or self.run.cfg.EVAL.BATCH_SIZE,
            split=self.part,
            workers=self.run.cfg.DATA.WORKERS,
            limit=self.images,
        )
        return evaluation.evaluate(
            model,
            loader,
            energy=self.energy,
            check_independence=False,
            progress=True,
            device=self.device,
            **more,
        )

    def found(self) -> dict:
        """What frontier.json holds."""
        best = cheapest(self.rows, self.arguments.within)
        return {
            "run": str(self.run.folder),
            "data": self.bundle.name,
            "part": self.part,
            "images": self.images,
            "within": self.arguments.within,
            "energy_model": self.energy,
            "ann_top1": self.ann["top1"],
            "device": str(self.device),
            "versions": versions(),
            "tried": self.rows,
            "left_out": self.skipped,
            "advice": advice(self.rows, self.arguments.within, self.ann["top1"], self.images),
            "command": best["command"] if best else None,
        }

    def finish(self) -> None:
        """Write frontier.json and the figure into the run's folder; print both in words."""
        found = self.found()
        with new_files(self.run.folder) as fresh:
            write_frontier(found, fresh)
            frontier_figure(found).save(fresh)
        self._say_frontier()
        say(f"numbers: {self.run.folder / 'frontier.json'}")
        say(f"figure: {self.run.folder / 'frontier.png'}")
        say(found["advice"])
        if found["command"]:
            say(f"next: {found['command']}")

    def _say_frontier(self) -> None:
        table = [["on the frontier", "top-1 %", "loss", "energy", "operations", "ms per image"]]
        best = [row for row in self.rows if row["on_frontier"]]
        for row in sorted(best, key=lambda r: r["energy_millijoules"]):
            seconds = row["seconds_per_image"]
            table.append(
                [
                    row["setting"],
                    f"{row['top1']:.2f}",
                    f"{row['loss']:.2f}",
                    _millijoules(row),
                    f"{row['synaptic_operations']:.3g}",
                    f"{1000 * seconds:.3g}" if seconds else "not measured",
                ]
            )
        say()
        for line in aligned(table):
            say(line)
        if self.skipped:
            say(f"{self.skipped} settings of more steps were not tried: each costs more than one that "
                "is as good as the ANN (--timesteps tries all)")  # fmt: skip


def _millijoules(row: dict) -> str:
    found = row["energy_millijoules"]
    return "not counted" if found is None else f"{found:.4g} mJ"
