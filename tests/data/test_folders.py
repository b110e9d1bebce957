"""A user's own class folders: grey, colour, any size, and everything that can be wrong."""

import numpy as np
import pytest
import torch
from PIL import Image

from spikeswap.data import folders, load_dataset


def picture(mode="RGB", size=(20, 30), value=None, seed=0):
    shape = (size[1], size[0]) + ((3,) if mode == "RGB" else ())
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    if value is not None:
        pixels[:] = value
    return Image.fromarray(pixels)


def fill(folder, classes=("cat", "dog"), count=5, suffix=".png", **kind):
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            picture(seed=100 * number + index, **kind).save(folder / name / f"{index}{suffix}")
    return folder


def load(folder, **more):
    return load_dataset("imagefolder", folder, **more)


def names(split):
    return {(path.parent.name, path.name) for path in split.source.paths}


def test_split_by_file_name(tmp_path):
    bundle = load(fill(tmp_path, count=10), img_size=16)
    assert bundle.splits == {"train": 16, "val": 4}
    assert torch.bincount(bundle.val.labels).tolist() == [2, 2]
    assert bundle.class_names == ["cat", "dog"] and bundle.num_classes == 2
    assert not names(bundle.train) & names(bundle.val)
    assert names(load(tmp_path, img_size=16).val) == names(bundle.val)
    assert load(tmp_path, img_size=16, val_fraction=0.5).splits == {"train": 10, "val": 10}
    image, label = bundle.val[0]
    assert image.shape == (3, 16, 16) and label in (0, 1)


def test_train_and_val_folders_and_select(tmp_path):
    fill(tmp_path / "train", count=10)
    fill(tmp_path / "val", count=3)
    bundle = load(tmp_path, img_size=16, val_fraction=0.2)
    assert bundle.splits == {"train": 16, "val": 6, "select": 4}
    assert all(path.parts[-3] == "val" for path in bundle.val.source.paths)


def test_train_folder_alone_is_split(tmp_path):
    fill(tmp_path / "train", count=10)
    assert load(tmp_path).splits == {"train": 16, "val": 4}


def test_grey_images_stay_grey(tmp_path):
    bundle = load(fill(tmp_path, mode="L", size=(28, 28)))
    assert (bundle.in_chans, bundle.img_size, bundle.default_augment) == (1, 28, "digits")
    assert bundle.train[0][0].shape == (1, 28, 28)
    assert load(tmp_path, in_chans=3).train[0][0].shape == (3, 28, 28)


def test_one_colour_image_makes_it_colour(tmp_path):
    fill(tmp_path, mode="L")
    picture("RGB").save(tmp_path / "cat" / "colour.png")
    assert load(tmp_path).in_chans == 3
    assert load(tmp_path, in_chans=1, img_size=8).train[0][0].shape == (1, 8, 8)


def test_every_common_format_mode_and_size(tmp_path):
    fill(tmp_path)
    for number, suffix in enumerate([".jpg", ".JPEG", ".bmp", ".gif", ".webp", ".tif", ".ppm"]):
        picture(size=(5 + number, 40 - 3 * number)).save(tmp_path / "cat" / f"extra{suffix}")
    for mode in ("1", "P", "RGBA", "LA", "CMYK"):
        suffix = ".tif" if mode == "CMYK" else ".png"
        picture().convert(mode).save(tmp_path / "dog" / f"mode-{mode}{suffix}")
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    (tmp_path / "dog" / ".hidden.png").write_text("no image")
    (tmp_path / "dog" / "deeper").mkdir()
    picture().save(tmp_path / "dog" / "deeper" / "one.png")
    bundle = load(tmp_path, img_size=12)
    assert sum(bundle.splits.values()) == 10 + 7 + 5 + 1
    images, _ = next(iter(bundle.eval_loader(50, split="train")))
    assert images.shape[1:] == (3, 12, 12) and images.isfinite().all()


def test_16_bit_grey_keeps_its_upper_bits(tmp_path):
    fill(tmp_path, mode="L", size=(8, 8))
    ramp = (np.arange(64, dtype=np.uint16) * 1024).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "cat" / "deep.png")
    bundle = load(tmp_path)
    assert bundle.in_chans == 1
    for split in (bundle.train, bundle.val):
        for position, path in enumerate(split.source.paths):
            if path.name == "deep.png":
                assert split.stored([position]).flatten().tolist() == list(range(0, 256, 4))
                return
    raise AssertionError("deep.png was not listed")


def test_centre_of_an_oblong_image(tmp_path):
    fill(tmp_path, count=2)
    wide = Image.new("RGB", (30, 10), "black")
    wide.paste("white", (10, 0, 20, 10))
    for name in ("cat", "dog"):
        for index in range(2):
            wide.save(tmp_path / name / f"{index}.png")
    stored = load(tmp_path, img_size=10).train.stored([0])
    assert stored.eq(255).all()


def test_photographs_are_turned_upright(tmp_path):
    fill(tmp_path, count=2, suffix=".jpg", size=(16, 16), value=0)
    lying = Image.new("RGB", (16, 16), "black")
    lying.paste("white", (0, 0, 8, 16))  # left half white; turned clockwise: upper half
    exif = Image.Exif()
    exif[0x0112] = 6
    for index in range(2):
        lying.save(tmp_path / "cat" / f"{index}.jpg", exif=exif, quality=95)
    bundle = load(tmp_path, img_size=16)
    position = bundle.train.labels.tolist().index(0)
    stored = bundle.train.stored([position])[0].float()
    assert stored[:, :6].mean() > 240 and stored[:, 10:].mean() < 15


@pytest.mark.parametrize("workers", [0, 2])
def test_training_loader_is_deterministic(tmp_path, workers):
    bundle = load(fill(tmp_path, count=10), img_size=16)
    for augment in ("crop-flip", "imagenet"):
        runs = []
        for used in (0, workers):
            loader = bundle.train_loader(8, augment=augment, seed=1, workers=used)
            loader.set_epoch(3)
            runs.append(list(loader))
        assert len(runs[0]) == 2
        for (images, labels), (again, labels_again) in zip(*runs, strict=True):
            assert images.shape == (8, 3, 16, 16)
            assert torch.equal(images, again) and torch.equal(labels, labels_again)


def test_eval_batches_equal_single_images(tmp_path):
    bundle = load(fill(tmp_path, count=10), img_size=16)
    images, labels = next(iter(bundle.eval_loader(16, split="train")))
    for position in range(16):
        image, label = bundle.train[position]
        assert torch.equal(images[position], image) and labels[position] == label


def test_first_images_are_mixed(tmp_path):
    bundle = load(fill(tmp_path, count=30), img_size=8)
    assert len(bundle.train.labels[:12].unique()) == 2


BAD_FOLDERS = {
    "missing": "does not exist",
    "file": "is a file",
    "empty": "is empty",
    "one_class": "1 class folders, but needs two",
    "flat": "0 class folders",
    "class_without_images": "holds no images",
    "lonely": "holds one image",
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_bad_folders(tmp_path, case):
    folder = tmp_path / case
    if case == "file":
        folder.write_text("x")
    elif case != "missing":
        folder.mkdir()
    if case == "one_class":
        fill(folder, classes=["cat"])
    elif case == "flat":
        picture().save(folder / "a.png")
    elif case == "class_without_images":
        fill(folder)
        (folder / "cow").mkdir()
        (folder / "cow" / "readme.txt").write_text("later")
    elif case == "lonely":
        fill(folder)
        (folder / "cow").mkdir()
        picture().save(folder / "cow" / "a.png")
    with pytest.raises(ValueError, match=BAD_FOLDERS[case]) as caught:
        load(folder)
    assert case in str(caught.value)


def test_no_folder_given():
    with pytest.raises(ValueError, match="--data-path"):
        load_dataset("imagefolder")


def test_a_class_that_training_lacks(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "val", classes=("cat", "cow"))
    with pytest.raises(ValueError, match=r"cow.*no counterpart in train/"):
        load(tmp_path)


def test_an_empty_class_in_val(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "val")
    for path in (tmp_path / "val" / "dog").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"val.dog.*holds no images"):
        load(tmp_path)


def damage(path, how):
    content = path.read_bytes()
    half = len(content) // 2
    if how == "empty":
        content = b""
    elif how == "text":
        content = b"this is no image"
    elif how == "truncated":
        content = content[:half]
    elif how == "flipped":
        content = (
            content[:half]
            + bytes(255 - byte for byte in content[half : half + 20])
            + content[half + 20 :]
        )
    path.write_bytes(content)


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize(
    ("suffix", "how"),
    [(s, h) for s in (".png", ".jpg", ".bmp") for h in ("empty", "text")]
    + [(".png", "truncated"), (".jpg", "truncated"), (".png", "flipped")],
)
def test_corrupt_images_are_named_before_anything_starts(
    tmp_path, monkeypatch, suffix, how, decode
):
    if not decode:
        monkeypatch.setattr(folders, "DECODE_LIMIT", -1)
    fill(tmp_path, suffix=suffix)
    damage(tmp_path / "dog" / f"3{suffix}", how)
    with pytest.raises(ValueError, match="corrupt") as caught:
        load(tmp_path)
    assert f"3{suffix}" in str(caught.value) and "dog" in str(caught.value)


def test_an_image_that_breaks_later_is_named_too(tmp_path):
    bundle = load(fill(tmp_path), img_size=8)
    damage(bundle.train.source.paths[0], "truncated")
    with pytest.raises(ValueError, match="corrupt"):
        bundle.train[0]


def test_floating_point_images_are_refused(tmp_path):
    fill(tmp_path)
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "cat" / "float.tif")
    with pytest.raises(ValueError, match=r"float.tif.*floating-point"):
        load(tmp_path)


def test_share_of_the_side_that_evaluation_keeps(tmp_path):
    """crop_pct 0.5: the picture becomes twice as large, and its middle is cut."""
    fill(tmp_path, count=2)
    framed = Image.new("RGB", (40, 40), "black")
    framed.paste("white", (10, 10, 30, 30))
    for name in ("cat", "dog"):
        for index in range(2):
            framed.save(tmp_path / name / f"{index}.png")
    whole = load(tmp_path, img_size=20, crop_pct=1.0).val.stored([0])
    assert whole[0, 0, 0, 0] == 0
    middle = load(tmp_path, img_size=20, crop_pct=0.5, interpolation="bicubic").val
    assert middle.stored([0]).eq(255).all()
    assert middle.source.interpolation == "bicubic"
