"""Did a change of the code change a number? Records the numbers of one commit, compares at another.

    python benchmarks/same_numbers.py --write before.json    # at the earlier commit
    python benchmarks/same_numbers.py --compare before.json  # at the later one; exit status 1: yes

Small networks with random weights are converted with every neuron, mask ratio and calibration, saved
and loaded, evaluated, and trained for three steps: fixed seeds, generated images, one thread. A tensor
is recorded as the SHA-256 of its bytes, beside it the sum in float64, which tells a rounding from a
fault. Both files must come from the same kind of machine and the same PyTorch (`environment`).
"""

import argparse
import hashlib
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import timm
import torch
import torchvision
from torch import Tensor, nn

import spikeswap
from spikeswap.calibrate import activation_thresholds
from spikeswap.convert import clipped, convert_model, insert_qcfs
from spikeswap.evaluate import evaluate
from spikeswap.models import create_model

STEPS, LEVELS, CLASSES = 8, 16, 7  # T; L; above 5, so that top-5 says something
BATCHES, MASKS = (3, 2), (0, 0.75)  # images of each evaluated batch; ratios
MEASURED = ("images_per_second", "peak_memory_bytes")  # what no two runs agree on

SMALL = {"img_size": 16, "in_chans": 1}
SWIN = {**SMALL, "patch_size": 2, "embed_dim": 8, "depths": (2, 2), "num_heads": (2, 2)}
OURS = {
    "swin_nano_bn": {"img_size": 32, "in_chans": 1},  # in full: the network of the demo
    "swin_t_bn": SWIN,
    "mst_swin_t": SWIN,
    "resnet18": {**SMALL, "widths": (4, 6, 8, 8)},
    "resnet20": {**SMALL, "widths": (4, 6, 8)},
    "vgg16": {**SMALL, "hidden": 16, "stages": ((4, 4), (6, 6), (8,) * 3)},
    "cifar10_cnn": {**SMALL, "widths": (4, 6, 8), "hidden": 16},
}
THEIRS = {
    "timm regnetx_002": lambda: timm.create_model("regnetx_002", num_classes=CLASSES),
    "torchvision squeezenet1_1": lambda: torchvision.models.squeezenet1_1(num_classes=CLASSES),
}
DIRECT = {
    "spikingformer": {**SMALL, "embed_dim": 32, "depth": 1, "num_heads": 4},
    "sdt": {**SMALL, "embed_dim": 32, "depth": 1, "num_heads": 4},
    "spikingresformer": {**SMALL, "widths": (8, 12, 24), "group_size": 8},
    "cifar10_snn": {**SMALL, "widths": (8, 12, 16), "hidden": 32},
}
CONVERSIONS = {neuron: {"neuron": neuron} for neuron in ("if", "stbif", "multi")}
PER_STEP = {"if, per-step": {"attention": "per-step"}}
FITTED = {  # to calibration images
    "if, thresholds": {"calibrate": "thresholds"},
    "if, bias": {"calibrate": "bias", "calibration_steps": STEPS},
}
OTHER = {"if, other": {"mask_scaling": "inverse", "readout": "second-half", "seed": 1}}
MORE = {"swin_t_bn": {**PER_STEP, **FITTED, **OTHER}, "mst_swin_t": PER_STEP, "resnet20": FITTED}


def images_for(name: str, count: int, seed: int) -> Tensor:
    """Noise of the size that a network takes, [count, C, H, W]."""
    arguments = {**OURS, **DIRECT}.get(name, {"img_size": 64, "in_chans": 3})
    shape = (count, arguments["in_chans"], arguments["img_size"], arguments["img_size"])
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def build(name: str) -> nn.Module:
    """A network of the lists with random weights, its batch norms as in a trained one."""
    torch.manual_seed(0)
    ours = {**OURS, **DIRECT}.get(name)
    model = THEIRS[name]() if ours is None else create_model(name, num_classes=CLASSES, **ours)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    with torch.no_grad():
        model.train()(images_for(name, 16, seed=1))
    return model.eval()


def fingerprint(*tensors: Tensor) -> dict:
    """SHA-256 of the bytes, and the sum, of tensors in this order."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return {"sha256": digest.hexdigest(), "sum": sum(t.double().sum().item() for t in tensors)}


def evaluated(model, images: Tensor, **arguments) -> dict:
    """The evaluator's record of two batches."""
    labels = torch.arange(len(images)) % CLASSES
    loader = list(zip(images.split(BATCHES), labels.split(BATCHES), strict=True))
    return evaluate(model, loader, name="same_numbers", **arguments)


def simulated(snn, images: Tensor, ann=None) -> dict:
    """The numbers of a converted network: readout, spikes of every site, record."""
    with snn.record() as spikes:
        readout = snn(images, timesteps=STEPS, chunk=STEPS)
    sent = [spikes[name].to(torch.int32) for name in snn.sites]
    return {
        "sites": len(snn.sites),
        "readout": fingerprint(readout),
        "spikes": {**fingerprint(*sent), "sent": sum(int(s.abs().sum()) for s in sent)},
        "evaluate": evaluated(snn, images, timesteps=STEPS, ann=ann),
    }


def converted(model, images: Tensor, **arguments) -> dict:
    """One conversion (evaluated with its ANN), and the same after save and load (without it)."""
    snn = convert_model(model, **arguments)
    with tempfile.TemporaryDirectory() as folder:
        snn.save(folder)
        loaded = spikeswap.load(folder)
    return {"made": simulated(snn, images, ann=model), "loaded": simulated(loaded, images)}


def conversions(name: str) -> dict:
    """Every conversion of one network, and the networks that the conversions start from."""
    model, images = build(name), images_for(name, sum(BATCHES), seed=2)
    fit = [images_for(name, 8, seed=3)]
    thresholds = activation_thresholds(model, fit, method="max", per_channel=True)
    found = {"thresholds": fingerprint(*thresholds.values()), "sites": len(thresholds)}
    for mask in MASKS if name in OURS else MASKS[:1]:
        qcfs = insert_qcfs(model, levels=LEVELS, thresholds=thresholds, mask=mask)
        part = found[f"mask {mask}"] = {
            "qcfs": fingerprint(qcfs(images)),
            "clipped": fingerprint(clipped(qcfs)(images)),
            "evaluate": evaluated(qcfs, images),
        }
        for how, arguments in {**CONVERSIONS, **MORE.get(name, {})}.items():
            loader = fit if "calibrate" in arguments else None
            part[how] = converted(qcfs, images, calibration=loader, **arguments)
    if name in THEIRS:  # straight from the ReLU network
        found["if, from images"] = converted(model, images, levels=LEVELS, calibration=fit)
    return found


def direct(name: str) -> dict:
    """A direct-trained network: readout and record."""
    model, images = build(name), images_for(name, sum(BATCHES), seed=2)
    record = evaluated(model, images, timesteps=STEPS)
    return {"readout": fingerprint(model(images, timesteps=STEPS)), "evaluate": record}


def trained(name: str) -> dict:
    """Three training steps under random masks: losses, parameters, logits in eval mode."""
    model = insert_qcfs(build(name), levels=LEVELS, mask=MASKS[-1]).train()
    images = images_for(name, 16, seed=4)
    labels = torch.arange(len(images)) % CLASSES
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-3), []
    torch.manual_seed(5)
    for _ in range(3):
        losses.append(nn.functional.cross_entropy(model(images), labels))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    tensors = {"losses": losses, "logits": [model.eval()(images)]}
    tensors["parameters"] = [value for _, value in sorted(model.named_parameters())]
    return {what: fingerprint(*values) for what, values in tensors.items()}


def flat(value, path: str = "") -> dict:
    """{path: leaf} of nested dictionaries and lists, without what was measured."""
    if not isinstance(value, (dict, list)) or not value:
        return {path: value}
    leaves = {}
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        if key not in MEASURED:
            leaves |= flat(part, f"{path} > {key}" if path else str(key))
    return leaves


def all_numbers(run: Path | None) -> dict:
    """{path: number or hash}; says on standard error how long each part took."""
    capability = torch.backends.cpu.get_cpu_capability()
    found = {"environment": [torch.__version__, platform.machine(), capability]}
    if run is not None:
        models = flat(json.loads((run / "eval.json").read_text())["models"])
        found["run"] = {path: leaf for path, leaf in models.items() if not isinstance(leaf, str)}
    work = [(conversions, name) for name in (*OURS, *THEIRS)] + [(direct, name) for name in DIRECT]
    work += [(trained, name) for name in ("swin_t_bn", "resnet20")]
    for numbers_of, name in work:
        what, start = f"{numbers_of.__name__} {name}", time.perf_counter()
        found[what] = numbers_of(name)
        print(f"{what}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    return flat(json.loads(json.dumps(found)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--write", type=Path, metavar="FILE", help="record all numbers")
    choice.add_argument("--compare", type=Path, metavar="FILE", help="list what differs from FILE")
    parser.add_argument("--run", type=Path, metavar="DIR", help="add the eval.json of a run")
    arguments = parser.parse_args()
    before = json.loads(arguments.compare.read_text()) if arguments.compare else None
    if arguments.write:
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    after = all_numbers(arguments.run)
    if before is None:
        arguments.write.write_text(json.dumps(after, indent=0) + "\n")
        print(f"{len(after)} numbers written to {arguments.write}")
        return 0
    paths = [p for p in {**before, **after} if before.get(p, "absent") != after.get(p, "absent")]
    for path in paths:
        print(path, before.get(path, "absent"), after.get(path, "absent"), sep="\n    ")
    print(f"{len(paths) or 'no'} difference(s) in {len(after)} numbers")
    return 1 if paths else 0


if __name__ == "__main__":
    sys.exit(main())
