"""Weight files made to harm: each is refused by name, at once, and nothing in it runs."""

import argparse
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import OrderedDict
from pathlib import Path
from random import Random

import pytest
import torch
from torch import nn

from spikeswap.models import create_model, load_published
from spikeswap.support.state_dicts import read_state_dict
from spikeswap.train import load_checkpoint, load_initial_weights

SECONDS = 10  # that any of them may take, on a busy machine


class Runs:
    """Pickles as a call that makes a file."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


class Claims:
    """Pickles as a tensor with any size, strides and offset on a storage of four elements."""

    def __init__(self, size, stride, offset=0):
        self.view = offset, size, stride

    def __reduce__(self):
        storage = torch.arange(4.0).storage()
        arguments = (storage, *self.view, False, OrderedDict())
        return torch._utils._rebuild_tensor_v2, arguments


class Prints(nn.Module):
    """Says so when it is unpacked by torch.jit."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight

    @torch.jit.export
    def __getstate__(self) -> int:
        return 1

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        print("it runs")
        self.training = False


def saved(content, legacy=False):
    """The bytes of torch.save."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def zipped(entries, method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def rewritten(data, changes, method=zipfile.ZIP_STORED):
    """A zip with some entries (by the end of their names) replaced."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    for name in entries:
        for end, content in changes.items():
            if name.endswith(end):
                entries[name] = content
    return zipped(entries, method)


def pickled(*operations):
    """A zip of torch.save whose pickle is made of these operations."""
    return rewritten(saved({}), {"data.pkl": b"\x80\x02" + b"".join(operations) + b"."})


def legacy(*operations):
    """The same in the older format."""
    head = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
    return head + b"\x80\x02" + b"".join(operations) + b"."


def huge_entry(at):
    """The directory of the zip claims 4 GiB, stored (20) or unpacked (24), for its pickle."""
    data = saved({"w": torch.ones(4)})
    place = data.index(b"PK\x01\x02") + at
    return data[:place] + b"\xf0\xff\xff\xff" + data[place + 4 :]


def overlapping():
    """A hundred entries of 1 MiB in a file of little more than one."""
    data = zipped({"a/data.pkl": pickle.dumps({}, 2), "a/data/0": bytes(2**20)})
    start = data.index(b"PK\x01\x02")
    start = data.index(b"PK\x01\x02", start + 4)
    end = data.index(b"PK\x05\x06")
    directory = data[data.index(b"PK\x01\x02") : start] + data[start:end] * 100
    tail = struct.pack("<HHII", 101, 101, len(directory), data.index(b"PK\x01\x02"))
    return data[: data.index(b"PK\x01\x02")] + directory + data[end : end + 8] + tail + b"\0\0"


def many_levels():
    """A list of two lists of two lists ..., sixty times: 60 objects, 2**60 when written out."""
    steps = [b"](h\x00h\x00eq\x00" for _ in range(60)]
    return pickled(b"]q\x00", *steps)


def colliding():
    """Numbers of one hash as keys: each look-up visits all before it."""
    keys = [b"\x8a\x0b" + (n * (2**61 - 1)).to_bytes(11, "little") + b"N" for n in range(60_000)]
    return pickled(b"}(", *keys, b"u")


def cut_storage():
    return rewritten(saved({"w": torch.ones(1000)}), {"data/0": bytes(8)})


def legacy_count(count):
    data = saved({"w": torch.ones(4)}, legacy=True)
    return data[:-24] + struct.pack("<q", count) + data[-16:]


def legacy_claim():
    """The pickle claims 2**31 - 1 elements where four follow."""
    return saved({"w": torch.ones(4)}, legacy=True).replace(b"K\x04N", b"J\xff\xff\xff\x7fN", 1)


def script():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Prints()), buffer)
    return buffer.getvalue()


def tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return buffer.getvalue()


FILES = {  # name: content from the path of a marker, words of the message
    "runs.pt": (lambda m: saved({"model": Runs(m)}), "'model' is no tensor but a pickled"),
    "runs_first.pt": (lambda m: saved(Runs(m)), "holds no state dict but a pickled"),
    "runs_as_key.pt": (lambda m: saved({(Runs(m),): torch.ones(1)}), "is no name"),
    "runs_legacy.pt": (lambda m: saved({"w": Runs(m)}, legacy=True), "pickled"),
    "runs_plain.pt": (lambda m: pickle.dumps({"w": Runs(m)}), "a pickle that torch.save did not"),
    "inst.pt": (lambda m: pickled(b"(V%b\nios\nmkdir\n" % str(m).encode()), "torch.save does not"),
    "script.pt": (lambda m: script(), "TorchScript archive.*model.state_dict"),
    "model.pt": (lambda m: saved(nn.Linear(2, 2)), "a pickled torch.nn.modules.linear.Linear"),
    "model_legacy.pt": (lambda m: saved(nn.Linear(2, 2), legacy=True), "a pickled torch.nn"),
    "net.onnx": (lambda m: b"\x08\x07\x12\x07pytorch", "an ONNX model"),
    "net.pt": (lambda m: b"\x08\x07\x12\x07pytorch", "an ONNX model"),
    "page.pt": (lambda m: b"<!DOCTYPE html>", "a web page"),
    "pointer.pt": (lambda m: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "packed.pt": (lambda m: b"\x1f\x8b\x08" + bytes(50), "gzip"),
    "keras.pt": (lambda m: b"\x89HDF\r\n", "HDF5"),
    "tar.pt": (lambda m: tar(), "tar archive"),
    "text.pt": (lambda m: b"no checkpoint", "truncated, corrupt"),
    "empty.pt": (lambda m: b"", "is empty"),
    "other.zip": (lambda m: zipped({"word/document.xml": b""}), "no data.pkl"),
    "cut.pt": (lambda m: saved({"w": torch.ones(99)})[:-90], "truncated, corrupt"),
    "cut_legacy.pt": (lambda m: saved({"w": torch.ones(99)}, legacy=True)[:-9], "is cut off"),
    "bomb.pt": (
        lambda m: rewritten(saved({}), {"data.pkl": bytes(2**27)}, zipfile.ZIP_DEFLATED),
        "compressed",
    ),
    "huge_entry.pt": (lambda m: huge_entry(20), "claims to hold more"),
    "huge_unpacked.pt": (lambda m: huge_entry(24), "claims to hold more"),
    "overlapping.pt": (lambda m: overlapping(), "claims to hold more"),
    "cut_storage.pt": (lambda m: cut_storage(), "claims 1,000 elements in 8 bytes"),
    "size.pt": (
        lambda m: saved({"w": Claims((10**9, 10**9), (10**9, 1))}),
        "storage of 4 elements",
    ),
    "repeated.pt": (lambda m: saved({"w": torch.ones(1).expand(10**11)}), "storage of 1 elements"),
    "stride.pt": (lambda m: saved({"w": Claims((2, 2), (4, 1))}), "storage of 4 elements"),
    "negative.pt": (lambda m: saved({"w": Claims((2,), (-1,), 3)}), "impossible shape"),
    "offset.pt": (lambda m: saved({"w": Claims((4,), (1,), 10**12)}), "storage of 4 elements"),
    "axes.pt": (lambda m: saved({"w": Claims((1,) * 99, (1,) * 99)}), "impossible shape"),
    "count.pt": (lambda m: legacy_count(2**40), "is cut off"),
    "claim.pt": (lambda m: legacy_claim(), "claims 2,147,483,647 elements"),
    "deep.pt": (lambda m: pickled(b"]" * 100_000, b"a" * 99_999), "nested without end"),
    "cycle.pt": (lambda m: pickled(b"]q\x00h\x00a"), "nested without end"),
    "levels.pt": (lambda m: many_levels(), "nested without end"),
    "colliding.pt": (lambda m: colliding(), "is no name"),
    "many.pt": (lambda m: pickled(b"}" * 3_000_000), "more than 2,000,000"),
    "memo.pt": (lambda m: legacy(b"}r\xff\xff\xff\x7f"), "truncated, corrupt"),
    "bytes.pt": (lambda m: legacy(b"\x8e" + struct.pack("<Q", 2**40), b"x"), "truncated, corrupt"),
    "text_claim.pt": (lambda m: legacy(b"X\xff\xff\xff\x7fx"), "truncated, corrupt"),
    "array.pt": (lambda m: legacy(b"\x96" + struct.pack("<Q", 2**40), b"x"), "truncated, corrupt"),
    "broken.safetensors": (lambda m: b"\xff" * 7 + b"\x00{", "no readable safetensors"),
}


def published(path):
    load_published(create_model("resnet20", img_size=16), path)


def initial(path):
    load_initial_weights(nn.Linear(2, 2), path, num_classes=2)


READERS = [published, initial, load_checkpoint]


def refused(reader, path):
    """The message, one sentence that names the file."""
    started = time.monotonic()
    with pytest.raises(ValueError) as caught:
        reader(path)
    assert time.monotonic() - started < SECONDS
    assert str(path) in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 1000
    return caught


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused_by_name_and_nothing_in_it_runs(name, tmp_path, capfd):
    content, words = FILES[name]
    path, marker = tmp_path / name, tmp_path / "marker"
    path.write_bytes(content(marker))
    for reader in READERS[:2]:
        assert refused(reader, path).match(words)
    refused(load_checkpoint, path)
    assert not marker.exists() and os.listdir(tmp_path) == [name]
    assert "it runs" not in capfd.readouterr().out


SCRIPT = """
import resource, sys, time
from pathlib import Path
from random import Random
from spikeswap.support.state_dicts import read_state_dict
pages = int(Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + {more}
resource.setrlimit(resource.RLIMIT_AS, (most, most))
for path in sys.argv[1:]:
    try:
        print("accepted", read_state_dict(path).keys())
    except ValueError as error:
        print("refused", Path(path).name in str(error))
    except BaseException as error:
        print("failed", path, type(error), error)
"""


def test_no_file_takes_more_memory_than_a_small_multiple_of_its_size(tmp_path):
    for name, (content, _) in FILES.items():
        (tmp_path / name).write_bytes(content(tmp_path / "marker"))
    files = sorted(tmp_path.iterdir())
    code = SCRIPT.format(more=400 * 2**20)  # bytes
    found = subprocess.run(
        [sys.executable, "-c", code, *files], capture_output=True, text=True, timeout=60, check=True
    )
    assert found.stdout.splitlines() == ["refused True"] * len(files), found.stdout


def fifo(path):
    os.mkfifo(path)


def folder(path):
    path.mkdir()


def link_to_fifo(path):
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to(path.with_name("pipe"))


def device(path):
    path.symlink_to("/dev/zero")


def endless_link(path):
    path.symlink_to(path)


@pytest.mark.parametrize("make", [fifo, folder, link_to_fifo, device, endless_link, Path.exists])
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_only_regular_files_are_opened(make, reader, name, tmp_path):
    make(tmp_path / name)
    refused(reader, tmp_path / name)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_with_any_bytes_changed_is_read_or_refused_by_name(legacy, tmp_path, monkeypatch):
    checksum = "_update_crc"  # without it a change reaches what reads the content
    monkeypatch.setattr(zipfile.ZipExtFile, checksum, lambda self, data: None)
    content = OrderedDict(a=torch.arange(24.0).view(4, 6).t(), b=nn.Parameter(torch.ones(3)))
    data = saved({"state_dict": content, "args": argparse.Namespace(x=(1, [2]))}, legacy)
    start, random, path = data.index(b"\x80\x02"), Random(0), tmp_path / "w.pt"
    for _ in range(1000):
        changed = bytearray(data)
        for _ in range(random.choice([1, 1, 2, 5])):
            first = start if random.random() < 0.7 else 0
            place = random.randrange(
                first, len(data) if first == 0 else min(start + 700, len(data))
            )
            cut = random.choice([0, 1, 1, 1, 4])
            changed[place : place + cut] = random.randbytes(random.choice([0, 1, 1, 1, 4]))
        path.write_bytes(changed)
        try:
            read_state_dict(path)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
