"""Official checkpoints of the direct-trained networks: wrappers, prefixes, strictness."""

import pytest
import torch

from spikeswap.models import create_model
from spikeswap.models.published_direct import direct_state_dict

SMALL = {"embed_dim": 32, "depth": 1, "num_heads": 4, "img_size": 16}


@pytest.fixture
def model():
    return create_model("sdt", **SMALL)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrappers_and_prefixes_come_off(model, wrapper, prefix):
    own = {key: value + 1 for key, value in model.state_dict().items()}
    raw = {prefix + key: value for key, value in own.items()}
    if wrapper:
        raw = {wrapper: raw, "epoch": 3, "optimizer": {"state": {}}}
    state_dict, unused = direct_state_dict(model, raw)
    model.load_state_dict(state_dict)
    for key, value in model.state_dict().items():
        assert torch.equal(value, own[key])
    assert unused == ["block.0.attn.talking_heads.weight"]


def test_nothing_is_dropped_or_guessed(model):
    raw = model.state_dict()
    raw["block.0.attn.extra"] = torch.zeros(1)
    del raw["head.bias"]
    raw["head.weight"] = torch.zeros(100, 32)
    with pytest.raises(ValueError) as caught:
        direct_state_dict(model, raw)
    text = str(caught.value)
    for part in ("missing: head.bias", "unknown: block.0.attn.extra", "(100, 32)", "create_model"):
        assert part in text
    assert "\n" not in text


def test_another_variant_is_named_in_short(model):
    raw = create_model("sdt", **{**SMALL, "embed_dim": 64}).state_dict()
    with pytest.raises(ValueError, match=r"and \d+ more"):
        direct_state_dict(model, raw)
    with pytest.raises(ValueError, match="head.weight' is no tensor but a str"):
        direct_state_dict(model, {**model.state_dict(), "head.weight": "x"})


def test_half_precision_rates_are_cast():
    model = create_model(
        "spikingresformer", widths=(16,), num_heads=(2,), depths=(1,), patch_sizes=(1,)
    )
    raw = model.state_dict()
    for key in raw:
        if "firing_rate" in key:
            raw[key] = torch.full_like(raw[key], 0.25, dtype=torch.float16)
    state_dict, unused = direct_state_dict(model, raw)
    assert unused == []
    assert {v.dtype for v in state_dict.values() if v.is_floating_point()} == {torch.float32}
    assert state_dict["layers.0.0.firing_rate_x"].unique().tolist() == [0.25]
