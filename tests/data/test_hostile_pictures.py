"""Pictures and archives made to harm: refused by name, or read in bounded memory."""

import gzip
import os
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from spikeswap.data import files, idx, load_dataset, sources


def fill(folder, count=3):
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (8, 8), (40 * index, 0, 9)).save(folder / name / f"{index}.png")
    return folder


def load(folder):
    return load_dataset("imagefolder", folder, val_fraction=0.34)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(marker) (w) file\n"


@pytest.mark.parametrize("kind", ["EPS", "TGA", "PCX", "DIB", "SGI", "XBM"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif"])
def test_only_the_readers_of_the_listed_formats_are_asked(kind, suffix, tmp_path):
    path = fill(tmp_path) / "cat" / f"other{suffix}"
    if kind == "EPS":
        path.write_bytes(EPS)
    else:
        Image.new("1" if kind == "XBM" else "RGB", (8, 8)).save(path, format=kind)
    with pytest.raises(ValueError, match="corrupt or no image") as caught:
        load(tmp_path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("suffix", sorted(files.SUFFIXES))
def test_every_listed_suffix_is_read(suffix, tmp_path):
    path = fill(tmp_path) / "cat" / f"other{suffix}"
    mode = {".pbm": "1", ".pgm": "L"}.get(suffix, "RGB")
    Image.new(mode, (8, 8)).save(path)
    assert load(tmp_path).splits["train"] == 5


MEMORY = """
import resource, sys
import torch
from pathlib import Path
from spikeswap.data.sources import FileImages
import torchvision.transforms.functional
pages = int(Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + 300 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (most, most))
for interpolation in ("bilinear", "bicubic"):
    images = FileImages(sys.argv[1:], [0] * 2, 3, 224, 8 / 7)
    images.interpolation = interpolation
    print(tuple(images.fetch([0, 1]).shape))
"""


def test_a_picture_of_one_pixel_times_many_is_resized_in_bounded_memory(tmp_path):
    Image.new("RGB", (20_000, 1)).save(tmp_path / "wide.png")
    Image.new("RGB", (1, 20_000)).save(tmp_path / "tall.png")
    found = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path / "wide.png", tmp_path / "tall.png"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.stdout.splitlines() == ["(2, 3, 224, 224)"] * 2, found.stderr


@pytest.mark.parametrize("size", [(40, 900), (900, 40), (1, 300), (33, 3001)])
@pytest.mark.parametrize("ratio", [1.0, 8 / 7])
def test_its_centre_is_that_of_the_whole_picture(size, ratio, tmp_path, monkeypatch):
    waves = np.sin(np.arange(size[1])[:, None] / 9 + np.arange(size[0]) / 7) * 100 + 120
    Image.fromarray(waves.astype(np.uint8)).save(tmp_path / "a.png")
    images = sources.FileImages([tmp_path / "a.png"], [0], 1, 32, ratio)
    whole = images.fetch([0]).int()
    monkeypatch.setattr(sources, "MOST_PIXELS", 0)
    assert (images.fetch([0]).int() - whole).abs().max() <= 1  # rounding of eight bits


def test_pipes_among_pictures_are_left_out(tmp_path):
    os.mkfifo(fill(tmp_path) / "cat" / "pipe.png")
    assert load(tmp_path).splits["train"] == 4


@pytest.mark.parametrize("place", [b"cat/\xe9.png", b"\xe9/0.png"])
def test_names_that_are_no_text_are_told(place, tmp_path):
    path = os.path.join(os.fsencode(fill(tmp_path)), place)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Image.new("RGB", (8, 8)).save(os.fsdecode(path))
    with pytest.raises(ValueError, match=r"\\xe9.*no UTF-8; rename it") as caught:
        load(tmp_path)
    str(caught.value).encode()


def write_idx(folder, name, shape, content):
    header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    (folder / name).write_bytes(gzip.compress(header + content))
    return folder / name


@pytest.mark.parametrize(
    "shape, content",
    [
        ((2, 28, 28), bytes(2**28)),  # 260 KB that unpack to 256 MiB
        ((2**32 - 1,) * 8, bytes(100)),
        ((2**31, 28, 28), bytes(2**20)),
    ],
)
@pytest.mark.parametrize("unpacks", [False, True])
def test_no_more_is_unpacked_than_the_header_announces(unpacks, shape, content, tmp_path):
    path = write_idx(tmp_path, "images.gz", shape, content)
    tracemalloc.start()
    with pytest.raises(ValueError, match="images.gz"):
        idx.unpack(path, tmp_path / "images") if unpacks else idx.read_idx(path)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()
    assert os.listdir(tmp_path) == ["images.gz"]


def test_an_array_comes_back_from_gz_and_unpacked(tmp_path):
    path = write_idx(tmp_path, "images.gz", (2, 3, 4), bytes(range(24)))
    expected = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    assert torch.equal(idx.read_idx(path), expected)
    assert torch.equal(idx.read_idx(idx.unpack(path, tmp_path / "images")), expected)


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100"])
def test_cifar_is_not_unpickled_before_its_checksum_is_right(name, tmp_path):
    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "marker"),)

    kind = getattr(torchvision.datasets, name)
    (tmp_path / kind.base_folder).mkdir()
    for filename in [n for n, _ in kind.train_list + kind.test_list] + [kind.meta["filename"]]:
        (tmp_path / kind.base_folder / filename).write_bytes(pickle.dumps(Runs()))
    with pytest.raises(ValueError, match="not found or damaged"):
        load_dataset(name.lower(), tmp_path)
    assert not (tmp_path / "marker").exists()
