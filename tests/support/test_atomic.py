"""Files and folders that are whole or not there, also when two write at once."""

import os
import threading

import pytest

from spikeswap.support.atomic import new_files, new_folder, write_file


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "a.txt"
    write_file(path, "ä")

    def broken(descriptor):
        raise OSError("disk")

    monkeypatch.setattr("os.fsync", broken)
    with pytest.raises(OSError, match="cannot write .*a.txt: disk"):
        write_file(path, "half")
    assert path.read_text(encoding="utf-8") == "ä" and os.listdir(path.parent) == ["a.txt"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    write_file(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path, texts = tmp_path / "a.txt", ["a" * 10**6, "b" * 10**6]
    barrier = threading.Barrier(2)

    def write(text):
        for _ in range(20):
            barrier.wait()
            write_file(path, text)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts and os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_is_whole_or_not_there(tmp_path):
    target = tmp_path / "snn" / "tag"
    with pytest.raises(RuntimeError), new_folder(target) as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    for text in ("one", "two"):
        with new_folder(target) as folder:
            (folder / "file").write_text(text)
    with pytest.raises(OSError, match="cannot write .*tag: disk"), new_folder(target):
        raise OSError("disk")
    assert (target / "file").read_text() == "two"
    assert os.listdir(tmp_path / "snn") == ["tag"]


def test_new_files_arrive_together_or_not_at_all(tmp_path):
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "eval.json").write_text("old")
    with pytest.raises(OSError, match="cannot write"), new_files(tmp_path) as folder:
        (folder / "eval.json").write_text("new")
        raise OSError("disk")
    assert (tmp_path / "eval.json").read_text() == "old"
    with new_files(tmp_path) as folder:
        (folder / "figures").mkdir()
        (folder / "figures" / "a.png").write_text("a")
        (folder / "eval.json").write_text("new")
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert names == ["eval.json", "figures", "figures/a.png", "kept"]
    assert (tmp_path / "eval.json").read_text() == "new"
