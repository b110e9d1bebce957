"""The steps of tools/export.py: images, the other side's interpreter, words."""

from pathlib import Path

from . import strangers

DEPLOY = Path(__file__).resolve().parent.parent / ".deploy"  # what `make deploy-check` fills


def python_for(target: str) -> str | None:
    """The interpreter that `make deploy-check` made for a target, if it is there."""
    path = DEPLOY / target / "bin" / "python"
    return str(path) if path.is_file() else None


def images(run, arguments):
    """Images of the held-out split and their labels (None where they are of other classes)."""
    bundle = run.data(arguments.data, arguments.data_path)
    loader = bundle.eval_loader(arguments.images, split="val", limit=arguments.images)
    found, labels = next(iter(loader))
    known = run.kind != "own" or strangers.labelled(run, bundle)
    return found, labels if known else None


def lines(record: dict) -> list[str]:
    """What a user reads of export.json."""
    found = [f"grade: {record['grade']} ({record['why']})"]
    if record["agreement"] is None:
        return found
    found.append(
        f"agreement with the spiking network: {record['agreement']:.2f} % of {record['images']} images "
        f"at T={record['timesteps']}; readout error {record['readout_error']:.2g}"
    )
    if record["top1"] is not None:
        found.append(f"top-1: {record['top1']:.2f} %, of the conversion {record['top1_snn']:.2f} %")
    default = record["default_import"]
    if "error" in default:
        found.append(
            f"{record['target']}'s own import without our settings fails: {default['error']}"
        )
    else:
        found.append(
            f"{record['target']}'s own import without our settings: agreement "
            f"{default['agreement']:.2f} %, readout error {default['readout_error']:.2g}"
        )
    return found
