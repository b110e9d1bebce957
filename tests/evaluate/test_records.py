"""`eval.json`: written whole or not at all, read with care."""

import dataclasses
import json

import pytest

from spikeswap.evaluate import check_record, evaluate, read_eval_json, write_eval_json
from spikeswap.evaluate.records import Record

PROMISED = """name kind run parameters timesteps neuron spike_values attention readout mask top1 top5
top1_by_timestep top5_by_timestep agreement_with_ann macs acs synaptic_operations other_operations
uncounted energy_millijoules energy_model spikes_per_synapse energy_to_quantised batch_independent
firing_rate images_per_second""".split()


@pytest.fixture
def record(direct, loader):
    return evaluate(direct, loader, name="toy")


def test_columns_are_a_plain_dictionary_in_the_promised_order(record):
    assert type(record) is dict
    assert list(record)[: len(PROMISED)] == PROMISED
    assert list(record) == [field.name for field in dataclasses.fields(Record)]


def test_a_null_needs_its_reason_and_a_column_its_name():
    made = Record()
    made.put("macs", None, "counting was switched off")
    made.put("acs", 3)
    assert made.as_dict()["uncounted"] == ["macs: counting was switched off"]
    with pytest.raises(AssertionError):
        made.put("top1", None)
    with pytest.raises(AttributeError):
        made.put("top_1", 3)


def test_round_trip(record, tmp_path):
    path = write_eval_json([record], tmp_path, data="fake", split="val", images=10, limit=10)
    content = read_eval_json(tmp_path)
    assert content == read_eval_json(path)
    assert content["schema"] == 1
    assert (content["data"], content["split"], content["images"], content["limit"]) == (
        "fake",
        "val",
        10,
        10,
    )
    assert content["models"] == [json.loads(json.dumps(record))]
    assert set(content["versions"]) >= {"spikeswap", "torch"}
    assert [p.name for p in tmp_path.iterdir()] == ["eval.json"]  # no temporary file is left


def test_the_old_file_survives_a_failure(record, tmp_path):
    write_eval_json([record], tmp_path, data="fake", split="val", images=10)
    before = (tmp_path / "eval.json").read_text()
    with pytest.raises(TypeError):
        write_eval_json([record], tmp_path, data="fake", split="val", images=10, more=object())
    with pytest.raises(ValueError, match="NaN|nan|JSON"):
        write_eval_json(
            [{**record, "top5": 50.0, "peak_memory_bytes": float("nan")}],
            tmp_path,
            data="fake",
            split="val",
            images=10,
        )
    assert (tmp_path / "eval.json").read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["eval.json"]


def test_a_run_that_was_deleted(tmp_path):
    with pytest.raises(ValueError, match="there is no evaluation .*gone"):
        read_eval_json(tmp_path / "gone")


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"schema": 2, "models": []}', "schema 2"),
        ("[]", "schema None"),
        ("{", "not JSON"),
        ("", "not JSON"),
        ("[" * 10**6, "not JSON"),
        ("9" * 10**4, "not JSON"),
        (
            '{"schema": 1, "data": "x", "split": "val", "images": 3, "models": 3}',
            "models is no list",
        ),
        ('{"schema": 1, "data": "x", "split": "val", "images": 3, "models": [3]}', "no record"),
        ('{"schema": 1, "data": "x", "split": "val", "images": 3}', "'models' is missing"),
    ],
)
def test_files_of_another_schema_or_damaged(tmp_path, text, message):
    (tmp_path / "eval.json").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_eval_json(tmp_path)
    assert "eval.json" in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "change, message",
    [
        ({"firing_rate": {"fire": 1.2}}, "firing rate 1.2 of fire"),
        ({"top1": 101.0}, "no percentage"),
        ({"acs": -5}, "at least 0"),
        ({"macs": None, "uncounted": []}, "without a reason"),
        ({"top1": "high"}, "top1 is 'high', no percentage"),
        ({"top5": float("nan")}, "no percentage"),
        ({"macs": True}, "macs is True"),
        ({"acs": [1]}, r"acs is \[1\]"),
        ({"firing_rate": [0.5]}, "of a wrong type"),
        ({"firing_rate": {"fire": None}}, "firing rate None"),
        ({"uncounted": 3}, "of a wrong type"),
        ({"name": 3}, "no record with a name"),
    ],
)
def test_impossible_values(record, change, message):
    with pytest.raises(ValueError, match=message):
        check_record({**record, **change})


def test_missing_keys(record):
    del record["acs"]
    with pytest.raises(ValueError, match="lacks acs"):
        check_record(record)
