import os

import pytest

from spikeswap.train import MetricsLog, read_metrics


def line(epoch, split="train"):
    return {
        "epoch": epoch,
        "split": split,
        "loss": 1.5,
        "top1": 50.0,
        "top5": 90.0,
        "learning_rate": 1e-3,
        "seconds": 2.0,
    }


def test_lines_come_back_and_a_resumed_log_drops_what_was_never_saved(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for epoch in (1, 2, 3):
        log.append(line(epoch))
    MetricsLog(path, after_epoch=2).append(line(3, "validation"))
    assert read_metrics(path) == [line(1), line(2), line(3, "validation")]
    MetricsLog(path)
    assert read_metrics(path) == []


def test_a_half_written_last_line_is_left_out_and_a_broken_one_before_it_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    MetricsLog(path).append(line(1))
    with open(path, "a") as file:
        file.write('{"epoch": 2, "spl')
    assert read_metrics(path) == [line(1)]
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(ValueError, match="line 1 of"):
        read_metrics(path)


@pytest.mark.parametrize(
    "text",
    ["[]", "3", '{"epoch": "x", "split": "train"}', '{"epoch": 1, "split": 3}', "[" * 10**6]
    + ['{"epoch": 1, "split": "train", "top1": "high"}', "9" * 10**4, "\xff"],
)
def test_lines_of_wrong_types_are_named(tmp_path, text):
    path = tmp_path / "metrics.jsonl"
    MetricsLog(path).append(line(1))
    path.write_bytes(text.encode("latin-1") + b"\n" + path.read_bytes())
    with pytest.raises(ValueError, match=r"line 1 of .*metrics|no UTF-8 text"):
        read_metrics(path)


def test_a_pipe_is_no_log(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match="is a pipe or a device"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_tensorboard_files_lie_beside_it(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", tensorboard=True)
    log.append(line(1))
    log.close()
    assert list((tmp_path / "tensorboard").glob("events*"))
