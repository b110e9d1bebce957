"""Published figures come out of the named conventions, from published rows and from spikes."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from spikeswap.counting.published import PublishedRows, binary_rate
from spikeswap.evaluate import CONVENTIONS, recount
from spikeswap.evaluate.conventions import spikingformer_attention, spikingformer_energy
from spikeswap.models import create_model

PUBLISHED = Path(__file__).parent / "published"
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
_spec = importlib.util.spec_from_file_location("fill_rule", GOLDEN / "fill_rule.py")
fill_rule = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fill_rule)


@pytest.mark.parametrize(
    "log, heads, millijoules",
    [
        ("spikingformer_8_512", 8, 7.463503),
        ("spikingformer_8_768", 12, 13.658865),
        ("spikingformer_8_768", 8, 13.6747),  # with the heads that the network really has
    ],
)
def test_the_published_logs_of_spikingformer(log, heads, millijoules):
    content = json.loads((PUBLISHED / "spikingformer_energy_logs.json").read_text())["logs"][log]
    ssa = content["ssa"]
    attention = spikingformer_attention(
        content["qkv_rates"], ssa["Tsteps"], heads, ssa["patchSize"] ** 2, ssa["embSize"]
    )
    rows = [(name, ac, mac) for name, _, ac, mac, _ in content["rows"]]
    macs, acs, energy = spikingformer_energy(rows, attention)
    digits = len(str(millijoules).partition(".")[2])
    assert round(energy, digits) == millijoules
    if heads == ssa["Nheads"]:
        assert macs / 1e9 == pytest.approx(content["mac_giga"], rel=1e-9)
        assert acs / 1e9 == pytest.approx(content["ac_giga"], rel=1e-9)


def golden(folder, name, **arguments):
    """A model with the fixture's weights in float64, its images, and the fixture's description."""
    model = create_model(name, num_classes=10, **arguments).double()
    spec = json.loads((GOLDEN / folder / "spec.json").read_text())
    keys = json.loads((GOLDEN / folder / "keys.json").read_text())
    arrays = fill_rule.fill(keys, spec["weight_gain"])
    known = model.state_dict()
    model.load_state_dict(
        {key: torch.from_numpy(a) for key, a in arrays.items() if key in known}, strict=True
    )
    images = torch.from_numpy(np.load(GOLDEN / folder / "io.npz")["x"]).double()
    return model.eval(), images, spec


def test_spikingformer_recounted_from_spikes_row_by_row():
    model, images, _ = golden(
        "spikingformer_tiny_imagenet",
        "spikingformer",
        embed_dim=64,
        depth=2,
        num_heads=8,
        tokenizer="imagenet",
        img_size=64,
    )
    official = json.loads((PUBLISHED / "spikingformer_tiny_imagenet.json").read_text())
    found = recount(model, images, "spikingformer", timesteps=4)
    assert found.macs / 1e9 == pytest.approx(official["total_mac_G"], rel=1e-9)
    assert found.acs / 1e9 == pytest.approx(official["total_ac_G"], rel=1e-9)
    assert found.millijoules == pytest.approx(official["energy_mJ"], rel=1e-9)
    collector = PublishedRows(model, 4)
    with torch.no_grad(), collector.collect(len(images)):
        model(images)
    rows = {row.name: row for row in collector.per_image()}
    assert set(rows) == set(official["layers"])
    for name, row in rows.items():
        theirs = official["layers"][name]
        assert row.dense == pytest.approx(theirs["dense_ops"], rel=1e-9), name
        assert row.ac == pytest.approx(theirs["ac"], rel=1e-9), name
        assert row.mac == pytest.approx(theirs["mac"], rel=1e-9), name
        if theirs["mac"] == 0:
            assert 100 * row.rate == pytest.approx(theirs["rate_percent"], rel=1e-9), name


@pytest.mark.parametrize(
    "folder, name, arguments",
    [
        (
            "spikingresformer_tiny",
            "spikingresformer",
            {
                "widths": (16, 32, 64),
                "num_heads": (1, 2, 4),
                "group_size": 16,
                "depths": (1, 1, 1),
                "stem": "imagenet",
                "img_size": 64,
            },
        ),
    ],
)
def test_spikingresformer_recounted_from_spikes_layer_by_layer(folder, name, arguments):
    model, images, spec = golden(folder, name, **arguments)
    reference = spec["energy_reference"]
    found = recount(model, images, "spikingresformer", timesteps=4)
    assert found.acs == reference["sop_total_per_sample"]
    assert found.millijoules == pytest.approx(reference["energy_mJ_per_sample_0.9pJ"], rel=1e-12)
    expected = reference["sop_per_layer_sum_over_T_and_batch"]
    assert {layer: acs * len(images) for layer, (_, acs) in found.rows.items()} == expected


def test_sdt_decomposes_into_its_parts():
    model, images, _ = golden("sdt_tiny", "sdt", embed_dim=64, depth=2)
    found = recount(model, images, "sdt")
    first = 27 * 8 * 32 * 32 * 4  # 3x3x3 to 8 channels at 32x32, four steps
    assert found.rows["patch_embed.proj_conv"] == (first, 0.0)
    assert found.macs == first
    assert found.acs == sum(acs for _, acs in found.rows.values())
    assert 0 < found.rows["attention"][1] <= 2 * 4 * 64 * 64
    assert found.millijoules == pytest.approx((4.6 * found.macs + 0.9 * found.acs) / 1e9)


def test_binary_rate_is_the_scripts():
    assert binary_rate(torch.tensor([0.0, 1.0, 1.0, 0.0])) == 0.5
    assert binary_rate(torch.tensor([0.0, 0.3])) == pytest.approx(0.15)
    assert binary_rate(torch.tensor([0.0, 1.5])) is None
    assert binary_rate(torch.tensor([0.0, 0.3, 0.6])) is None


def test_unknown_conventions_and_unfit_networks(ann, images):
    with pytest.raises(ValueError, match="did you mean spikingformer"):
        recount(ann, images, "spikingfomer")
    with pytest.raises(ValueError, match="q_lif"):
        recount(_Untimed(ann), images, "spikingformer")
    assert all(convention.source for convention in CONVENTIONS.values())


class _Untimed(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, timesteps=4):
        return self.inner(x)
