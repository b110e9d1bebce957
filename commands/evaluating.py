"""The steps of tools/eval.py: runs, data, networks, records, files."""

from dataclasses import dataclass, field
from pathlib import Path

from .. import evaluate as evaluation
from ..distributed import barrier, is_main, rank, world_size
from ..report import write_report
from ..snn import load
from ..support.choices import FORMATS
from ..train import conversions_of, find_conversion, new_files, read_metrics
from . import rebuild, run_on_disk, strangers
from .cli import say, say_settings
from .frontier_file import read_frontier

WATCHED = 4  # images of the split whose spikes the report shows one by one


def open_runs(arguments) -> list[run_on_disk.Run]:
    """All runs that are compared, read before any work; a missing conversion is found here."""
    runs = [run_on_disk.open_run(path) for path in (arguments.run or [None])]
    for run in runs:
        if run.converts and (arguments.tag is not None or not conversions_of(run.folder)):
            _conversions(run, arguments)
    return runs


def _conversions(run, arguments) -> list[Path]:
    """The folders of the conversions that are evaluated, each once."""
    tags = list(dict.fromkeys(arguments.tag or [None]))
    return [find_conversion(run.folder, tag) for tag in tags]


def open_bundles(arguments, runs: list[run_on_disk.Run]) -> list:
    """The data of each run, prepared for its network; all must be one data set."""
    bundles = [run.data(arguments.data, arguments.data_path, arguments.img_size) for run in runs]
    names = {bundle.name for bundle in bundles}
    if len(names) > 1:
        found = ", ".join(
            f"{run.folder.name}: {bundle.name}" for run, bundle in zip(runs, bundles, strict=True)
        )
        raise ValueError(
            f"the runs were trained on several data sets ({found}), and accuracies on "
            "different images cannot be compared; choose one with --data NAME"
        )
    for run, bundle in zip(runs, bundles, strict=True):
        bundle.split(arguments.split)
        if run.kind != "own" and bundle.num_classes != run.build["num_classes"]:
            raise ValueError(
                f"run {run.folder} tells {run.build['num_classes']} classes apart, "
                f"but {bundle.name} has {bundle.num_classes}; choose data with the "
                "classes that it was trained on"
            )
    return bundles


@dataclass
class Found:
    """What the evaluation of some runs gave: the records, and what the report shows beside them."""

    records: list[dict] = field(default_factory=list)
    audits: dict[str, str] = field(default_factory=dict)
    layer_errors: dict[str, list[dict]] = field(default_factory=dict)
    observations: dict[str, evaluation.Observation] = field(default_factory=dict)


def evaluate_run(run: run_on_disk.Run, bundle, arguments, device, found: Found) -> None:
    """Add the records of a run: its network, then its conversions (one if trained directly)."""
    size = arguments.img_size
    if run.build.get("source") == "function":
        say(f"{run.build['model']} is not called because a file names it: its conversion alone")
        network = None
    else:
        network = run.network() if size is None else rebuild.for_size(run, bundle.img_size)
        network = network.to(device)
    if not run.converts:
        direct = run.kind == "direct"
        steps = max(arguments.timesteps) if arguments.timesteps and direct else None
        more = {"name": run.folder.name, "spiking": direct, "timesteps": steps}
        found.records.append(_record(network, run, bundle, arguments, device, **more))
        if direct:
            _observe(found, run.folder.name, network, bundle, arguments, steps)
        return
    conversions = [
        (folder.name, _opened(folder, network, run, arguments, device))
        for folder in _conversions(run, arguments)
    ]
    more = {"name": run.folder.name, "spiking": False}
    if network is not None:
        found.records.append(_record(network, run, bundle, arguments, device, **more))
    for tag, snn in conversions:
        _evaluate_conversion(tag, snn, network, run, bundle, arguments, device, found)


def _opened(folder: Path, network, run: run_on_disk.Run, arguments, device):
    """A conversion, made anew where the images have another size."""
    size = arguments.img_size
    snn = load(folder)
    if size is not None and size != run.build["img_size"]:
        snn = rebuild.convert_as(snn, network)
    return snn.to(device)


def _evaluate_conversion(
    tag: str, snn, network, run: run_on_disk.Run, bundle, arguments, device, found: Found
) -> None:
    steps = max(arguments.timesteps) if arguments.timesteps else snn.info.timesteps
    _say_conversion(run, tag, snn, steps, bundle, arguments)
    name = f"{run.folder.name}/{tag}"
    more = {"name": name, "spiking": True, "timesteps": steps, "ann": network}
    found.records.append(_record(snn, run, bundle, arguments, device, **more))
    _observe(found, name, snn, bundle, arguments, steps, network)
    found.audits[name] = _audit(snn, found.records[-1])
    if snn.layer_errors:
        found.layer_errors[name] = snn.layer_errors


def _audit(snn, record: dict) -> str:
    """The report of a conversion, with the share that the evaluation counted."""
    lines, share = [snn.report.summary], record["spike_driven_share"]
    if share is not None:
        lines.append(f"{100 * share:.2f} % of the weight layers' operations are spike-driven")
    return "\n".join(lines)


def _record(model, run, bundle, arguments, device, *, spiking: bool, **more) -> dict:
    loader = bundle.eval_loader(
        arguments.batch_size or run.cfg.EVAL.BATCH_SIZE,
        split=arguments.split,
        rank=rank(),
        world_size=world_size(),
        workers=run.cfg.DATA.WORKERS,
        limit=arguments.limit,
    )
    if run.kind == "own" and not strangers.labelled(run, bundle):
        more["task"] = "counts"  # its classes are others, or there are none
    return evaluation.evaluate(
        model,
        loader,
        energy=arguments.energy or run.cfg.EVAL.ENERGY,
        run=str(run.folder),
        chunk=arguments.chunk or run.cfg.EVAL.CHUNK or None,
        first_index=loader.first_index,
        early_exit=arguments.early_exit if spiking else None,
        progress=is_main(),
        device=device,
        **more,
    )


def _observe(found: Found, name: str, model, bundle, arguments, steps, ann=None) -> None:
    """Watch the model on the first images of the split, for the figures that look inside."""
    if not is_main():
        return
    watched = min(WATCHED, arguments.limit or WATCHED)
    loader = bundle.eval_loader(watched, split=arguments.split, limit=watched)
    images, labels = next(iter(loader))
    try:
        found.observations[name] = evaluation.observe(
            model, images, steps, ann, loader.first_index, labels=labels
        )
    except ValueError as error:  # the numbers are there; only these figures are not
        say(f"{name}: no figures of single layers ({error})")


def _say_conversion(run, tag: str, snn, steps: int, bundle, arguments) -> None:
    info = snn.info
    say(f"{run.folder}, conversion {tag}, on the {arguments.split} split of {bundle.name}")
    made = "as converted"
    say_settings(
        {
            "neuron": (f"{info.neuron}, sends {info.spike_values}", made),
            "attention": (info.attention, made),
            "readout": (info.readout, made),
            "T": (steps, "given" if arguments.timesteps else made),
            "mask": (f"{info.mask:g}, scaling {info.mask_scaling}", made),
            "calibration": (_calibration(info), made),
            "energy": (
                arguments.energy or run.cfg.EVAL.ENERGY,
                "given" if arguments.energy else "recipe or default",
            ),
        }
    )


def _calibration(info) -> str:
    made, own = info.calibration, info.fidelity
    parts = [f"thresholds by {own.method}, {own.images} images"] if own else []
    parts += [f"{made.method}, {made.images} images"] if made else []
    return "; ".join(parts) or "none"


def _frontier(run) -> dict | None:
    try:
        return read_frontier(run.folder)
    except ValueError as error:  # the numbers are there; only this figure is not
        say(f"the report goes without its frontier: {error}")
        return None


def write(found: Found, runs, bundle, arguments, device) -> None:
    """eval.json, report.html, figures and tables in the output folder; says where they are."""
    barrier()
    if not is_main():
        return
    folder = Path(arguments.output) if arguments.output else runs[0].folder
    total = bundle.splits[arguments.split]
    images = min(arguments.limit or total, total)
    about = {
        "data": bundle.name,
        "split": arguments.split,
        "images": images,
        "limit": arguments.limit,
        "device": str(device),
        "data_note": bundle.note,
    }
    with new_files(folder) as fresh:
        evaluation.write_eval_json(found.records, fresh, total_images=total, **about)
        write_report(
            found.records,
            fresh,
            metrics={run.folder.name: read_metrics(run.folder / "metrics.jsonl") for run in runs},
            audits=found.audits,
            layer_errors=found.layer_errors,
            observations=found.observations,
            frontier=_frontier(runs[0]),
            formats=[name for name in FORMATS if name in arguments.figures],
            **about,
        )
    say(
        f"{images} of {total} images of the {arguments.split} split"
        + (" (--limit: no result for the whole split)" if images < total else "")
        + f"; {bundle.note}"
    )
    say(f"numbers: {folder / 'eval.json'}")
    say(f"report: {folder / 'report.html'}")
