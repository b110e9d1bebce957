"""The report: one page that asks nothing of the network, figures and tables beside it."""

import html.parser
import json
import re

import pytest

from spikeswap.evaluate import evaluate, write_eval_json
from spikeswap.report import write_report
from spikeswap.report.words import describe_model, findings


@pytest.fixture
def records(ann, direct, leaking, loader):
    return [
        evaluate(ann, loader, name="the ANN", run="runs/a"),
        evaluate(direct, loader, name="direct <b>&amp;</b>", run="runs/b"),
        evaluate(leaking, loader, name="leaking", run="runs/c"),
    ]


class Page(html.parser.HTMLParser):
    """Collects tags, attributes and text."""

    VOID = {"meta", "link", "br", "img", "hr"}

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def of(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def page(records, tmp_path):
    metrics = {
        "a": [
            {"epoch": e, "split": s, "top1": 10.0 * e}
            for e in range(3)
            for s in ("train", "validation")
        ]
    }
    path = write_report(
        records,
        tmp_path,
        metrics=metrics,
        data="fake",
        split="val",
        limit=10,
        data_note="Generated images.",
        audits={"toy": "audit <text>"},
        layer_errors={"toy": [{"name": "x", "error": 0.1}, {"name": "y", "error": 0.2}]},
    )
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_is_well_formed_and_complete(page, records):
    assert page.open == []
    text = " ".join(page.text)
    assert "fake" in text
    assert "limited to 10" in text
    assert "Generated images." in text
    assert "audit <text>" in text
    assert "direct <b>&amp;</b>" in text  # names are shown, not run
    for record in records:
        assert record["name"] in text
    assert len([a for a in page.of("tr") if a is not None]) > 3


def test_nothing_is_requested_from_anywhere(page, tmp_path):
    source = (tmp_path / "report.html").read_text()
    assert "http" not in source.lower().replace("http-equiv", "")
    assert not re.search(r"url\((?!#)", source)
    assert not page.of("script")  # nothing was observed
    assert not page.of("img")
    for tag, attrs in page.tags:
        for key in ("src", "href", "xlink:href"):
            value = attrs.get(key)
            assert value is None or value.startswith(("#", "data:")), (tag, value)


def test_every_figure_has_title_axes_and_alt_text(page, tmp_path):
    svgs = page.of("svg")
    assert len(svgs) == 7
    for attrs in svgs:
        assert attrs["role"] == "img"
        assert len(attrs["aria-label"]) > 60
        assert "viewbox" in attrs
        assert "width" not in attrs
    text = " ".join(page.text)
    for label in (
        "time steps T (log scale)",
        "top-1 accuracy, %",
        "mJ",
        "spikes a neuron and step",
    ):
        assert label in text
    names = {
        "accuracy_over_time",
        "accuracy_over_energy",
        "energy_to_quantised",
        "firing_rates",
        "operations",
        "training",
        "layer_errors",
    }
    heads = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}
    files = list((tmp_path / "figures").iterdir())
    assert {p.name for p in files} == {name + ending for name in names for ending in heads}
    assert all(p.read_bytes().startswith(heads[p.suffix]) for p in files)


def test_ids_are_unique(page):
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {
        value.lstrip("#")
        for _, attrs in page.tags
        for key, value in attrs.items()
        if key == "xlink:href" and value.startswith("#")
    }
    assert targets
    assert targets <= set(ids)


def test_light_and_dark_and_narrow(tmp_path, page):
    source = (tmp_path / "report.html").read_text()
    assert "prefers-color-scheme: dark" in source
    assert "width=device-width" in source
    assert "var(--ink)" in source
    assert "#010203" not in source


def test_tables_for_a_paper(page, tmp_path, records):
    folder = tmp_path / "tables"
    markdown = (folder / "results.md").read_text().splitlines()
    assert len(markdown) == 2 + len(records)
    assert len({line.count("|") for line in markdown}) == 1
    csv = (folder / "results.csv").read_text().splitlines()
    assert len(csv) == 1 + len(records)
    assert str(records[0]["energy_millijoules"]) in csv[1]
    latex = (folder / "results.tex").read_text()
    assert latex.count(r"\\") == 1 + len(records)
    assert r"\toprule" in latex


def test_what_was_evaluated_is_read_from_eval_json(records, tmp_path):
    write_eval_json(records, tmp_path, data="some_data", split="val", images=10, limit=10)
    source = write_report(records, tmp_path).read_text()
    assert "some_data" in source
    write_eval_json(records[:1], tmp_path, data="some_data", split="val", images=10)
    assert "some_data" not in write_report(records, tmp_path).read_text()  # of other models


def test_findings_say_who_loses_and_who_leaks(records):
    sentences = [text for _, text in findings(records)]
    assert any(text.startswith("leaking leaks: no: ") for text in sentences)
    direct = next(text for text in sentences if text.startswith("direct"))
    assert "what its own quantised network needs" in direct
    assert ("loses to it" in direct) == (records[1]["energy_to_quantised"] > 1)


def test_a_verdict_that_flips_between_energy_models_is_told(records):
    record = json.loads(json.dumps(records[1]))
    record["energy_to_quantised"] = 0.5
    for name, energies in record["energies"].items():
        energies["to_quantised"] = 0.5 if name == "45nm-fp32" else 2.0
    sentences = [text for _, text in findings([record])]
    assert "beats it, but the verdict flips under 45nm-fp16" in sentences[0]


def test_a_ranking_that_flips_is_told(records):
    first, second = (json.loads(json.dumps(records[1])) for _ in range(2))
    first["name"], second["name"] = "one", "two"
    for name in first["energies"]:
        first["energies"][name]["millijoules"] = 1.0
        second["energies"][name]["millijoules"] = 2.0 if name == "lemaire" else 0.5
    told = findings([first, second])[-1][1]
    assert "one needs less than two under lemaire and more under 45nm-fp32" in told


def test_models_in_words(records, direct, loader):
    assert describe_model(records[0]) == "ANN, one forward pass."
    text = describe_model(records[1])
    assert "T = 4" in text
    assert "LIFNode sending {0,1}" in text
    masked = {**records[0], "mask": 0.75}
    assert "expectation (mask ratio 0.75)" in describe_model(masked)


def test_an_ann_alone_has_a_report_too(ann, loader, tmp_path):
    path = write_report([evaluate(ann, loader)], tmp_path)
    assert "Comparison" in path.read_text()


def test_no_records_or_impossible_ones(records, tmp_path):
    with pytest.raises(ValueError, match="no records"):
        write_report([], tmp_path)
    with pytest.raises(ValueError, match="firing rate"):
        write_report([{**records[1], "firing_rate": {"fire": 2.0}}], tmp_path)
    with pytest.raises(ValueError, match="no such file"):
        write_report(records, tmp_path, metrics={"a": tmp_path / "metrics.jsonl"})
    assert not (tmp_path / "report.html").exists()
