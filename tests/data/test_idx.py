"""MNIST and Fashion-MNIST from IDX files that the test writes: plain, gzipped, damaged."""

import gzip

import numpy as np
import pytest
import torch

from spikeswap.data import digits, load_dataset

NAMES = [name for pair in digits.FILES.values() for name in pair]


def idx_bytes(array):
    shape = b"".join(int(size).to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()


def contents():
    generator = np.random.default_rng(0)
    arrays = {}
    for image_name, label_name in digits.FILES.values():
        count = 40 if "train" in image_name else 20
        arrays[image_name] = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[label_name] = (np.arange(count) % 10).astype(np.uint8)
    return arrays


def write(folder, packed):
    folder.mkdir(parents=True, exist_ok=True)
    arrays = contents()
    for name, array in arrays.items():
        content = idx_bytes(array)
        path = folder / (name + ".gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    return arrays


def check(bundle, arrays):
    assert bundle.splits == {"train": 40, "val": 20}
    stored = bundle.train.stored(torch.arange(40))
    assert np.array_equal(stored[:, 0].numpy(), arrays[NAMES[0]])
    assert np.array_equal(bundle.val.labels.numpy(), arrays[NAMES[3]])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("below", ["FashionMNIST/raw", "raw", "."])
def test_given_folder(tmp_path, packed, below):
    arrays = write(tmp_path / below, packed)
    check(load_dataset("fashion_mnist", tmp_path), arrays)


def test_mnist(tmp_path):
    arrays = write(tmp_path / "MNIST" / "raw", packed=False)
    bundle = load_dataset("mnist", tmp_path, img_size=32)
    check(bundle, arrays)
    assert bundle.default_augment == "digits" and bundle.img_size == 32


def test_debian_files_are_unpacked_once(tmp_path, monkeypatch):
    arrays = write(tmp_path / "system", packed=True)
    monkeypatch.setattr(digits, "DEBIAN_FASHION", tmp_path / "system")
    monkeypatch.setenv("SPIKESWAP_CACHE", str(tmp_path / "cache"))
    bundle = load_dataset("fashion_mnist")
    check(bundle, arrays)
    assert bundle.class_names[9] == "Ankle-boot" and bundle.default_augment == "crop-flip"
    raw = tmp_path / "cache" / "FashionMNIST" / "raw"
    assert sorted(path.name for path in raw.iterdir()) == sorted(NAMES)
    times = [path.stat().st_mtime_ns for path in sorted(raw.iterdir())]
    check(load_dataset("fashion_mnist"), arrays)
    assert [path.stat().st_mtime_ns for path in sorted(raw.iterdir())] == times


def test_debian_files_without_a_writable_cache(tmp_path, monkeypatch):
    arrays = write(tmp_path / "system", packed=True)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr(digits, "DEBIAN_FASHION", tmp_path / "system")
    monkeypatch.setenv("SPIKESWAP_CACHE", str(tmp_path / "file"))
    check(load_dataset("fashion_mnist"), arrays)


def test_a_damaged_debian_file_leaves_nothing_half_unpacked(tmp_path, monkeypatch):
    write(tmp_path / "system", packed=True)
    broken = tmp_path / "system" / (NAMES[0] + ".gz")
    broken.write_bytes(broken.read_bytes()[:2000])
    monkeypatch.setattr(digits, "DEBIAN_FASHION", tmp_path / "system")
    monkeypatch.setenv("SPIKESWAP_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz"):
        load_dataset("fashion_mnist")
    assert list((tmp_path / "cache").rglob("*")) == []


def test_missing_files_name_folder_and_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(digits, "DEBIAN_FASHION", tmp_path / "nowhere")
    with pytest.raises(ValueError) as caught:
        load_dataset("fashion_mnist")
    for word in ("train-images-idx3-ubyte", "FashionMNIST", "--download", "dataset-fashion-mnist"):
        assert word in str(caught.value)


def test_one_missing_file_is_named(tmp_path):
    write(tmp_path, packed=False)
    (tmp_path / NAMES[3]).unlink()
    with pytest.raises(ValueError, match="no t10k-labels-idx1-ubyte "):
        load_dataset("mnist", tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (NAMES[0], idx_bytes(np.zeros((40, 28, 28), np.uint8))[:-5], "truncated"),
        (NAMES[0], b"\0\0", "no IDX file"),
        (NAMES[0], b"GIF89a" + b"\0" * 50, "no IDX file"),
        (NAMES[0], idx_bytes(np.zeros((40, 27, 28), np.uint8)), "not \\[N, 28, 28\\]"),
        (NAMES[1], idx_bytes(np.zeros(39, np.uint8)), "39 labels for 40 images"),
        (NAMES[1], idx_bytes(np.full(40, 10, np.uint8)), "labels from 0 to 9"),
        (NAMES[0], bytes([0, 0, 8, 3, 0, 0]), "truncated"),
    ],
)
def test_damaged_files(tmp_path, name, content, message):
    write(tmp_path, packed=False)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset("mnist", tmp_path)
    assert name in str(caught.value)


def test_a_damaged_gz_in_a_given_folder(tmp_path):
    write(tmp_path, packed=True)
    (tmp_path / (NAMES[2] + ".gz")).write_bytes(b"not gzip")
    with pytest.raises(ValueError, match="t10k-images-idx3-ubyte.gz"):
        load_dataset("mnist", tmp_path)
