"""Figures and data that look inside layers, from what `observe` saw."""

import base64
import json
import re

import pytest
import torch

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.evaluate import evaluate, observe
from spikeswap.models import create_model
from spikeswap.report import write_report
from spikeswap.report.distribution_figures import norms
from spikeswap.report.layer_data import layers_json


@pytest.fixture(scope="module")
def seen():
    """{name: (record, observation)} of a BN and an LN network."""
    found, images, labels = {}, torch.rand(4, 1, 16, 16), torch.arange(4)
    for norm in ("bn", "ln"):
        torch.manual_seed(0)
        net = create_model(
            "swin_nano_bn",
            num_classes=4,
            img_size=16,
            in_chans=1,
            embed_dim=12,
            depths=(1, 1),
            num_heads=(2, 2),
            window_size=4,
            patch_size=2,
            norm=norm,
        )
        net.train()
        net(torch.rand(8, 1, 16, 16))
        ann = insert_qcfs(net, levels=4, threshold=1.0, mask=0.5).eval()
        snn = convert_model(ann, neuron="if" if norm == "bn" else "stbif")
        record = evaluate(snn, [(images, labels)], timesteps=6, name=f"swin </b> {norm}")
        found[record["name"]] = record, observe(snn, images, 6, ann, labels=labels)
    return found


@pytest.fixture(scope="module")
def report(seen, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(
        [record for record, _ in seen.values()],
        folder,
        observations={name: what for name, (_, what) in seen.items()},
    )
    return folder


def test_layer_data_can_be_read_back(seen):
    observations = {name: what for name, (_, what) in seen.items()}
    text = layers_json(observations)
    assert "<" not in text  # nothing can close the script element
    data = json.loads(text)
    assert [model["name"] for model in data["models"]] == list(observations)
    for model, what in zip(data["models"], observations.values(), strict=True):
        assert 0 <= model["first"] < len(model["layers"])
        for told, layer in zip(model["layers"], what.layers, strict=True):
            raster = torch.zeros_like(layer.raster)
            for key, sign in (("plus", 1), ("minus", -1)):
                packed = base64.b64decode(told.get(key, ""))
                for n in range(told["rows"]):
                    for t in range(what.timesteps):
                        i = n * what.timesteps + t
                        if packed and packed[i // 8] >> i % 8 & 1:
                            raster[t, n] = sign
            assert torch.equal(raster, layer.raster.sign())
            rates = [
                10 ** (((q - 1) / 254 - 1) * data["decades"]) if q else 0
                for q in base64.b64decode(told["rates"])
            ]
            assert torch.allclose(torch.tensor(rates), layer.rates, rtol=0.05, atol=2e-5)


def test_the_report_offers_every_layer_and_asks_for_nothing(report, seen):
    source = (report / "report.html").read_text(encoding="utf-8")
    assert source.count("<select") == 2
    assert not re.search(r"<script[^>]*\ssrc", source)
    assert "http" not in source.lower().replace("http-equiv", "")
    for key in ("fetch(", "XMLHttpRequest", "import(", "WebSocket"):
        assert key not in source
    for _, what in seen.values():
        assert all(layer.name in source for layer in what.layers)


def test_figures_and_tables_are_files_too(report, seen):
    figures = {path.stem for path in (report / "figures").glob("*.png")}
    assert {
        "layer_1",
        "layer_2",
        "distributions_1",
        "distributions_2",
        "norms",
        "activation_maps",
    } <= figures
    rows = (report / "tables" / "layers.csv").read_text().splitlines()
    assert len(rows) == 1 + sum(len(what.layers) for _, what in seen.values())
    assert (report / "tables" / "layers.tex").read_text().count(r"\\") == len(rows)


def test_norms_need_both_kinds(seen):
    observations = {name: what for name, (_, what) in seen.items()}
    drawing = norms(observations)
    assert "BN (swin" in drawing.alt
    assert "LN (swin" in drawing.alt
    first = dict(list(observations.items())[:1])
    assert norms(first) is None


def test_nothing_observed_means_no_section(seen, tmp_path):
    write_report([record for record, _ in seen.values()], tmp_path)
    assert "<select" not in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "tables" / "layers.csv").exists()
