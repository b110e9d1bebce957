"""Reading files of strangers: regular, of bounded size and depth."""

import os

import pytest

from spikeswap.support.files import check_tree, open_file, read_json, read_text


def test_text_and_json_of_a_regular_file_or_a_link_to_one(tmp_path):
    (tmp_path / "a").write_text('{"ä": 1}', encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert read_json(tmp_path / "link", "record", "write it") == {"ä": 1}
    with open_file(str(tmp_path / "a"), "record", "write it") as stream:
        assert stream.read(1) == b"{"


@pytest.mark.parametrize(
    "make, words",
    [
        (os.mkfifo, "is a pipe or a device"),
        (os.mkdir, "is a folder"),
        (lambda path: path.symlink_to("/dev/zero"), "is a pipe or a device"),
        (lambda path: path.symlink_to(path), "cannot be read"),
        (lambda path: path.write_bytes(b"\xff"), "no UTF-8 text"),
        (lambda path: path.write_bytes(bytes(101)), "more than 9.53674e-05 MiB"),
        (lambda path: None, "there is no record"),
    ],
)
def test_anything_else_is_refused_by_name(make, words, tmp_path):
    make(tmp_path / "file")
    with pytest.raises(ValueError, match=words) as caught:
        read_text(tmp_path / "file", "record", "write it again", most=100)
    assert f"record {tmp_path / 'file'}" in str(caught.value)


def test_trees_that_grow_without_end_are_refused():
    deep, shared, endless = [], [0], []
    for _ in range(1000):
        deep = [deep]
    for _ in range(60):
        shared = [shared, shared]
    endless.append({"again": endless})
    for value in (deep, shared, endless):
        with pytest.raises(ValueError, match="nested without end"):
            check_tree(value)
    fine = {"a": [1, (2, {"b": "c"})], "d": [[0]] * 1000}
    assert check_tree(fine) is fine
