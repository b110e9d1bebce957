"""The networks in the box: what they answer is what their card says, and the files are the card's."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import spikeswap
from spikeswap.data import load_dataset
from spikeswap.evaluate import evaluate
from spikeswap.neurons import QCFS
from spikeswap.pretrained import list_pretrained, load_pretrained, pretrained_card, pretrained_run
from spikeswap.train import checkpoint_of, load_checkpoint

NAMES = list_pretrained()
README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture(scope="module")
def digits():
    return load_dataset("mnist5k", img_size=32)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_that_of_the_card(name):
    folder, sums = pretrained_run(name), pretrained_card(name)["sha256"]
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert files == {*sums, "card.json"}
    for file, expected in sums.items():
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == expected, file


@pytest.mark.parametrize("name", NAMES)
def test_no_file_names_a_folder_of_the_machine_that_made_it(name):
    absolute = re.compile(rb"(^|[\"'\s=])(/[\w.-]+){2}|[A-Z]:\\\\")
    assert absolute.search(str(README).encode()) and not absolute.search(b"runs/a, 1/2")
    for path in pretrained_run(name).rglob("*"):
        if path.is_file() and path.suffix in (".json", ".jsonl", ".yaml"):
            assert not absolute.search(path.read_bytes()), path
    checkpoint = load_checkpoint(checkpoint_of(pretrained_run(name)))
    plain = {key: value for key, value in checkpoint.items() if key not in ("model", "model_ema")}
    assert not absolute.search(json.dumps(plain).encode())


def test_the_trained_network_has_the_accuracy_of_its_card(digits):
    network = load_pretrained("swin_nano_bn_mnist5k")
    assert any(isinstance(module, QCFS) for module in network.modules()) and not network.training
    right = sum(
        int((network(images).argmax(1) == labels).sum())
        for images, labels in digits.eval_loader(100)
    )
    (row,) = (r for r in pretrained_card("swin_nano_bn_mnist5k")["records"] if r["kind"] == "ann")
    assert abs(100 * right / 1000 - row["top1"]) <= 0.1  # one image at the edge on another machine


def test_the_readme_says_what_the_card_says():
    rows = {r["neuron"]: r for r in pretrained_card("swin_nano_bn_mnist5k")["records"]}
    text = README.read_text(encoding="utf-8")
    assert f"QCFS network, {rows[None]['top1']:.1f} % of the 1,000 held-out digits" in text
    cumulative, rate = rows["multi"], rows["if"]
    said = f"T = {cumulative['timesteps']}, {cumulative['top1']:.1f} %; "
    assert f'{said}"if": T = {rate["timesteps"]}, {rate["top1"]:.1f} %' in text


@pytest.mark.parametrize("neuron", ["if", "multi"])
def test_its_conversions_spike_and_agree_with_it(neuron, digits):
    ann = load_pretrained("swin_nano_bn_mnist5k")
    snn = load_pretrained("swin_nano_bn_mnist5k", neuron)
    row = evaluate(snn, digits.eval_loader(25), timesteps=16, ann=ann, limit=25, count=False)
    assert row["neuron"] == neuron and row["agreement_with_ann"] >= 92
    images, _ = next(iter(digits.eval_loader(2)))
    assert snn(images).shape == (snn.info.timesteps, 2, 10)  # its own T


def test_from_the_top_of_the_package_without_loading_torch():
    assert spikeswap.list_pretrained() == NAMES and "load_pretrained" in dir(spikeswap)
    assert torch.is_tensor(spikeswap.load_pretrained(NAMES[0])(torch.rand(1, 1, 32, 32)))
    code = "import spikeswap, sys; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("swin_nano",), "did you mean swin_nano_bn_mnist5k"),
        (("../box",), "known: swin_nano_bn_mnist5k"),
        ((None,), "no pretrained network None"),
        (("swin_nano_bn_mnist5k", "stbif"), "no conversion with neuron 'stbif'; known: if, multi"),
    ],
)
def test_what_is_not_in_the_box(arguments, words):
    with pytest.raises(ValueError, match="pretrained network") as error:
        load_pretrained(*arguments)
    assert words in str(error.value)
