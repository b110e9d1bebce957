"""`snn.info`: typed columns, the same JSON as ever, and a clear refusal of what cannot be."""

import json

import pytest
from torch import nn

import spikeswap
from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.snn import ConversionInfo

KEYS = (
    "neuron attention readout mask mask_scaling mask_sites trained_mask seed levels spike_values "
    "timesteps"
).split()
OPTIONAL = ["sites", "products"]  # older conversions do not have them
FITTED = {
    "method": "bias",
    "images": 50,
    "steps": 16,
    "bias_images": 50,
    "bias_sites": ["1"],
    "threshold_parameters": 4,
    "bias_parameters": 64,
}
WORDS = {"trained_mask": "mask ratio", "calibration": "calibration|bias_sites|more|images"}
ROW = dict.fromkeys(["name", "ann", "error", "clipping", "quantisation", "unevenness"], 0.25)


@pytest.fixture(scope="module")
def snn():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    return convert_model(insert_qcfs(model, levels=8, mask=0.25), seed=3)


@pytest.fixture
def content(snn):
    return json.loads(json.dumps(snn.info.as_dict()))


def test_columns_are_the_keys_of_the_json_in_order(snn, tmp_path):
    snn.save(tmp_path)
    written = json.loads((tmp_path / "conversion.json").read_text())["info"]
    assert list(written) == KEYS + OPTIONAL and written == snn.info.as_dict()
    assert spikeswap.load(tmp_path).info == snn.info


def test_reads_like_a_dictionary(snn, content):
    info = snn.info
    assert info["neuron"] == info.neuron == "if" and info["timesteps"] is None
    assert info.get("levels") == 8 and info.get("calibration") is None
    assert "calibration" not in info and {**info} == content == info
    with pytest.raises(KeyError):
        info["nothing"]


def test_can_be_written_like_a_dictionary(content):
    info = ConversionInfo.from_dict(content)
    info["timesteps"] = 9
    assert info.timesteps == 9 and info.as_dict()["timesteps"] == 9
    with pytest.raises(KeyError):
        info["timestep"] = 9


def test_all_columns_survive_json(content):
    more = {
        "calibration": FITTED,
        "calibration_text": "fitted",
        "layer_errors": [{**ROW, "name": "1", "error": "inf"}],
        "logit_errors": {"4": 0.5},
        "convergence": "It converges.",
    }
    info = ConversionInfo.from_dict({**content, "timesteps": 4, **more})
    assert info.calibration.bias_sites == ["1"] and info["calibration"]["steps"] == 16
    text = json.dumps(info.as_dict())
    assert json.loads(text) == {**content, "timesteps": 4, **more}
    assert ConversionInfo.from_dict(json.loads(text)) == info


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key_is_named(content, key):
    content.pop(key)
    with pytest.raises(ValueError, match=f"'{key}' is missing"):
        ConversionInfo.from_dict(content)


@pytest.mark.parametrize("content", [None, [], "info", 3])
def test_anything_but_a_dictionary_is_refused(content):
    with pytest.raises(ValueError, match="no dictionary of neuron, attention"):
        ConversionInfo.from_dict(content)


@pytest.mark.parametrize(
    "key, value",
    [
        ("neuron", "lif"),
        ("neuron", None),
        ("neuron", ["if"]),
        ("attention", "some"),
        ("readout", "last"),
        ("mask", 1.0),
        ("mask", float("nan")),
        ("mask", "0.5"),
        ("mask", True),
        ("trained_mask", -0.1),
        ("mask_scaling", "double"),
        ("mask_sites", "all"),
        ("mask_sites", [1]),
        ("seed", 0.5),
        ("levels", 0),
        ("levels", None),
        ("levels", True),
        ("spike_values", [0, "1"]),
        ("timesteps", 0),
        ("timesteps", "many"),
        ("calibration", "thresholds"),
        ("calibration", {**FITTED, "steps": 0}),
        ("calibration", {**FITTED, "bias_sites": 3}),
        ("calibration", {**FITTED, "more": 3}),
        ("calibration", {"method": "bias"}),
        ("calibration_text", 3),
        ("layer_errors", [{"name": "1"}]),
        ("layer_errors", {"1": ROW}),
        ("logit_errors", [0.5]),
        ("convergence", 1),
        ("future", 1),
    ],
)
def test_impossible_values_are_refused_by_name(content, key, value):
    with pytest.raises(ValueError, match=WORDS.get(key, key).replace("_", "[_ ]")):
        ConversionInfo.from_dict({**content, key: value})


def test_what_goes_with_one_coding_alone_is_refused_elsewhere(content):
    for change in ({"attention": "per-step"}, {"readout": "second-half"}):
        ConversionInfo.from_dict({**content, **change})
        with pytest.raises(ValueError, match="running"):
            ConversionInfo.from_dict({**content, "neuron": "multi", **change})
