import os

import pytest

from spikeswap.train import (
    checkpoint_of,
    claim_run_folder,
    find_conversion,
    find_run,
    point_latest,
    runs_of,
)


def test_names_count_up_and_latest_follows(tmp_path):
    names = [claim_run_folder(tmp_path / "runs", "a_fake") for _ in range(3)]
    assert [folder.name for folder in names] == ["a_fake", "a_fake-2", "a_fake-3"]
    claim_run_folder(tmp_path / "runs", "a_fake_other")
    assert runs_of(tmp_path / "runs", "a_fake") == names
    point_latest(names[1])
    assert find_run(root=tmp_path / "runs") == names[1]
    point_latest(names[2])
    assert find_run(root=tmp_path / "runs") == find_run(tmp_path / "runs" / "latest") == names[2]
    assert find_run(names[0]) == names[0]


def test_latest_is_a_text_file_where_links_cannot_be_made(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no links here")

    monkeypatch.setattr("os.symlink", refuse)
    for expected in (claim_run_folder(tmp_path, "a"), claim_run_folder(tmp_path, "a")):
        point_latest(expected)
        assert (tmp_path / "latest").is_file()
        assert find_run(root=tmp_path) == expected


def test_what_is_missing_is_said_with_the_next_step(tmp_path):
    with pytest.raises(ValueError, match="train one with"):
        find_run(root=tmp_path / "runs")
    run = claim_run_folder(tmp_path / "runs", "a")
    with pytest.raises(ValueError, match="runs there: a"):
        find_run(tmp_path / "runs" / "b")
    with pytest.raises(ValueError, match="has no checkpoint"):
        checkpoint_of(run)
    with pytest.raises(ValueError, match=r"tools/convert\.py --run"):
        find_conversion(run)
    point_latest(run)
    run.rmdir()
    with pytest.raises(ValueError, match="which is gone"):
        find_run(root=tmp_path / "runs")


def test_the_newest_conversion_is_found(tmp_path):
    for number, tag in enumerate(("zz", "aa")):
        (tmp_path / "snn" / tag).mkdir(parents=True)
        file = tmp_path / "snn" / tag / "conversion.json"
        file.write_text("{}")
        os.utime(file, (1000 + number, 1000 + number))
    assert find_conversion(tmp_path).name == "aa"
    assert find_conversion(tmp_path, "zz").name == "zz"
    with pytest.raises(ValueError, match="it has zz, aa"):
        find_conversion(tmp_path, "bb")
