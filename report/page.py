"""`write_report`: one self-contained page, figures and tables for several evaluated models."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from ..evaluate.energy import ENERGY_MODELS
from ..evaluate.observation import Observation
from ..evaluate.records import check_record, read_eval_json
from ..support.atomic import write_file
from ..support.choices import FORMATS
from ..support.metrics_file import read_metrics
from ..support.versions import versions
from . import figures
from .distribution_figures import distributions, norms
from .drawing import Drawing
from .frontier_figures import frontier_figure
from .grid import Grid
from .layer_data import layers_json
from .layer_figures import layer_figures
from .layer_table import layer_table
from .map_figures import activation_maps
from .mask_figures import mask_accuracy, mask_power, mask_table
from .paper import bibliography, methods
from .tables import as_csv, as_latex, as_markdown, number, percent, shown_columns
from .words import describe_model, findings

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(
    records: Sequence[dict],
    folder,
    *,
    metrics=None,
    audits: Mapping | None = None,
    layer_errors: Mapping | None = None,
    observations: Mapping[str, Observation] | None = None,
    frontier: Mapping | None = None,
    formats: Sequence[str] = tuple(FORMATS),
    data: str | None = None,
    split: str | None = None,
    images: int | None = None,
    limit: int | None = None,
    device: str | None = None,
    data_note: str | None = None,
    title: str = "Spiking networks beside their ANNs",
) -> Path:
    """Write report.html, figures/*.{png,pdf,svg} and tables/*.{md,csv,tex}; returns the page's path.

    The figures of single layers are PNG only.

    Args:
        records: what `evaluate` returned, one a model (ANN first reads best).
        folder: where to write.
        metrics: training curves: {run name: path of a metrics.jsonl, or its rows}.
        audits: {model name: text or object that prints as text}, such as `snn.report`.
        layer_errors: {model name: rows {"name", "error", ...}} of the conversion.
        observations: {model name: what `observe` saw}: the figures that look inside.
        frontier: what frontier.json holds.
        formats: of the figures beside the page, of png, pdf, svg; empty for none.
        data, split, images, limit, device: what was evaluated, and where; what is left out is
            taken from an eval.json of the same models in the folder, if there is one.
        data_note: a remark on the data, such as that they are generated.
    """
    if not records:
        raise ValueError("no records: give write_report what evaluate returned, one a model")
    for record in records:
        check_record(record)
    folder = Path(folder)
    seen = dict(observations or {})
    drawings = _drawings(records, _read_metrics(metrics or {}), _errors(layer_errors or {}), seen)
    drawings += [frontier_figure(frontier)] if frontier else []
    grids = [grid for grid in (mask_table(records),) if grid is not None]
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    about = {
        "data": data,
        "split": split,
        "images": images,
        "limit": limit,
        "device": device,
        "data_note": data_note,
        "total_images": None,
    }
    written = _written(folder, records)
    about = {key: written.get(key) if value is None else value for key, value in about.items()}
    if about["images"] is None:
        about["images"] = records[0].get("images")
    page = _page(
        records,
        drawings,
        audits or {},
        layer_errors or {},
        {
            **about,
            "title": title,
            "versions": versions(),
            "grids": grids,
            "findings": findings(records) + _advice(frontier),
            "layer_data": layers_json(seen),
        },
    )
    for drawing in drawings:
        drawing.save(folder / "figures", formats)
    for drawing in layer_figures(seen) if "png" in formats else ():  # many, and mostly pixels
        drawing.save(folder / "figures", ("png",))
    _write_tables(folder / "tables", records, [*grids, *layer_table(seen)])
    more = {**about, "versions": versions()}
    write_file(folder / "tables" / "methods.tex", methods(records, more))
    write_file(folder / "tables" / "references.bib", bibliography(records, about["data"]))
    path = folder / "report.html"
    write_file(path, page)
    return path


def _advice(frontier: Mapping | None) -> list[tuple[str, str]]:
    """What tools/frontier.py advises, among the findings."""
    return [("note", f"Frontier: {frontier['advice']}")] if frontier else []


def _write_tables(folder: Path, records: Sequence[dict], grids: Sequence[Grid]) -> None:
    files = [
        ("results.md", as_markdown(records)),
        ("results.csv", as_csv(records)),
        ("results.tex", as_latex(records)),
    ]
    for name, text in files + [file for grid in grids for file in grid.files()]:
        write_file(folder / name, text)


def _written(folder: Path, records: Sequence[dict]) -> dict:
    """The eval.json of these very models, if it lies in the folder."""
    if not (folder / "eval.json").is_file():
        return {}
    try:
        content = read_eval_json(folder)
    except ValueError:  # of another schema, or damaged: it says nothing about these models
        return {}
    same = [m["name"] for m in content["models"]] == [r["name"] for r in records]
    return content if same else {}


def _drawings(records, metrics: Mapping, errors: Mapping, seen: Mapping) -> list[Drawing]:
    found = [draw(records) for draw in (*figures.RECORD_FIGURES, mask_power, mask_accuracy)]
    found += [figures.training_curves(metrics), figures.layer_errors(errors)]
    found += [activation_maps(seen), norms(seen), *distributions(seen)]
    return [drawing for drawing in found if drawing is not None]


def _page(records, drawings, audits: Mapping, layer_errors: Mapping, about: dict) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(number=number, percent=percent, breakable=breakable)
    names = {r["energy_model"] for r in records} | {
        m for r in records for m in r.get("energies") or ()
    }
    sources = {}
    for record in records:
        sources.update({m: e["source"] for m, e in (record.get("energies") or {}).items()})
    models = [(name, ENERGY_MODELS.get(name), sources.get(name, "")) for name in sorted(names)]
    columns = shown_columns(records)
    return environment.get_template("report.html.jinja").render(
        columns=columns,
        rows=[(record, [column.show(record) for column in columns]) for record in records],
        drawings=drawings,
        descriptions=[(r["name"], describe_model(r)) for r in records],
        energy_models=models,
        audits={name: str(text) for name, text in audits.items()},
        layer_errors=dict(layer_errors),
        **about,
    )


def breakable(text: str) -> Markup:
    """A long name that may break after / and _ and in front of -."""
    return Markup(re.sub(r"([/_])|(?=-)", r"\1<wbr/>", str(escape(text))))


def _read_metrics(metrics) -> dict[str, list[dict]]:
    if not isinstance(metrics, Mapping):
        metrics = {"training": metrics}
    read = {}
    for name, source in metrics.items():
        if isinstance(source, (str, Path)):
            if not Path(source).exists():
                raise ValueError(f"{source}: no such file; give the metrics.jsonl of a run")
            source = read_metrics(source)
        read[name] = list(source)
    return read


def _errors(layer_errors: Mapping) -> dict[str, list[dict]]:
    """Rows with a name and a number called error, whatever else they hold."""
    kept = {}
    for name, rows in layer_errors.items():
        kept[name] = [row for row in rows or () if isinstance(row.get("error"), (int, float))]
    return kept
