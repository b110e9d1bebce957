"""What goes into a paper: every setting is said, every citation has its entry and the reverse."""

import re

import pytest

from spikeswap.report.paper import bibliography, methods, references

ABOUT = {"data": "mnist5k", "split": "val", "images": 1000, "device": "cpu",
         "versions": {"spikeswap": "0.1.0", "torch": "2.14.1"}}  # fmt: skip


def record(**more):
    return {
        "name": "run_a/if_T128", "kind": "converted", "timesteps": 128, "neuron": "if",
        "spike_values": [0, 1], "attention": "accumulated", "readout": "second-half", "mask": 0.75,
        "seed": 3, "energy_model": "45nm-fp32", "energy_millijoules": 0.1,
        "energy_to_quantised": 2.0, **more,
    }  # fmt: skip


ANN = record(kind="ann", name="run_a", timesteps=None, neuron=None, energy_to_quantised=None)


def test_the_paragraph_says_every_setting():
    text = methods([ANN, record()], ABOUT)
    for part in ("T = 128", "neuron if", "accumulated", "0.75", "seed 3", "1,000 images", "torch 2.14.1",
                 "45nm-fp32", r"run\_a/if\_T128", "val split", "mnist5k", "second"):  # fmt: skip
        assert part in text, part


@pytest.mark.parametrize("records", [
    [ANN, record()],
    [record(mask=0.0, energy_model="lemaire", energy_to_quantised=None)],
    [record(kind="direct", mask=0.0, attention=None, energy_millijoules=None)],
])  # fmt: skip
@pytest.mark.parametrize("data", ["mnist5k", "fashion_mnist", "cifar100", "imagenet", "own", None])
def test_what_is_cited_is_what_the_bibliography_has(records, data):
    text = methods(records, {**ABOUT, "data": data})
    cited = {key for group in re.findall(r"\\cite\{([^}]*)\}", text) for key in group.split(",")}
    assert cited == set(references(records, data))
    entries = re.findall(r"^@\w+\{(\w+),$", bibliography(records, data), re.MULTILINE)
    assert set(entries) == cited and len(entries) == len(cited)


def test_an_energy_model_of_ones_own_is_not_called_another_s():
    own = record(energy_model="45nm-mine", energies={"45nm-mine": {"source": "board 7, 3 % off"}})
    text = methods([own, record(energy_model="lemaire")], ABOUT)
    assert r"the model 45nm-mine (board 7, 3 \% off), per image" in text
    assert "horowitz2014computing" not in text and r"lemaire~\cite{lemaire2022analytical}" in text


def test_entries_are_whole():
    for key, entry in references(
        [ANN, record(), record(energy_model="lemaire")], "mnist5k"
    ).items():
        assert entry.count("{") == entry.count("}") and f"{{{key}," in entry
        for field in ("title", "author", "year"):
            assert f"  {field} = {{" in entry, (key, field)
