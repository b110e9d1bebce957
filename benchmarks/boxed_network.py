"""Make the network in the box: train it, convert it, evaluate it, and pack its run folder.

    python benchmarks/boxed_network.py                 # about 15 minutes on two cores
    python benchmarks/boxed_network.py --run DIR       # pack a run that these commands made

It runs the user's own commands, with the recipe `swin_nano_bn.yaml` and its seed, and writes
pretrained/box/swin_nano_bn_mnist5k/: the run folder without what only training needs (optimizer), and
card.json with data, seed, commands, versions, date, hardware, the records of all 1,000 held-out digits
and the SHA-256 of every file.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from spikeswap.evaluate import read_eval_json
from spikeswap.support.versions import versions
from spikeswap.train import checkpoint_of, load_checkpoint, new_folder, save_checkpoint

ROOT = Path(__file__).resolve().parents[1]
NAME = "swin_nano_bn_mnist5k"
TRAIN = ["train", "--cfg", "swin_nano_bn.yaml"]
CONVERSIONS = [
    ["convert", "--T", "128", "--mask", "0.75"],
    ["convert", "--neuron", "multi", "--T", "14"],
]
TAGS = ["if-accumulated-T128-mask0.75-bias", "multi-accumulated-T14-mask0.75"]
KEPT = ("model", "model_ema", "build", "config", "epoch", "epochs", "kind")
COLUMNS = (
    "name kind timesteps neuron spike_values attention readout mask seed top1 top1_by_timestep "
    "agreement_with_ann macs acs energy_millijoules energy_model energy_to_quantised "
    "spike_driven_share"
).split()


def spikeswap(*words) -> None:
    """One of the user's commands, in a process of its own."""
    print("spikeswap", *words, flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    command = [sys.executable, "-m", "spikeswap", *map(str, words)]
    subprocess.run(command, check=True, env=environment)


def made(folder: Path) -> Path:
    """A run, trained in `folder` and converted."""
    spikeswap(*TRAIN, "--output", folder)
    run = next(path.parent for path in folder.glob("*/config.yaml") if not path.parent.is_symlink())
    for words in CONVERSIONS:
        spikeswap(*words, "--run", run)
    return run


def pack(run: Path, folder: Path) -> None:
    """What a user needs of a run, and its card."""
    spikeswap("eval", "--run", run, "--tag", *TAGS)
    for name in ("config.yaml", "metrics.jsonl"):
        shutil.copyfile(run / name, folder / name)
    source = checkpoint_of(run)
    checkpoint = load_checkpoint(source)
    content = {key: checkpoint[key] for key in KEPT if checkpoint.get(key) is not None}
    save_checkpoint(folder / source.relative_to(run), content)
    for tag in TAGS:
        shutil.copytree(run / "snn" / tag, folder / "snn" / tag)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    evaluated = read_eval_json(run)
    card = {
        "name": NAME,
        "data": evaluated["data"],
        "split": evaluated["split"],
        "images": evaluated["images"],
        "img_size": checkpoint["build"]["img_size"],
        "seed": checkpoint["config"]["TRAIN"]["SEED"],
        "commands": [" ".join(["spikeswap", *words]) for words in (TRAIN, *CONVERSIONS)],
        "versions": versions(),
        "date": datetime.date.today().isoformat(),
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "records": [{key: row.get(key) for key in COLUMNS} for row in evaluated["models"]],
        "sha256": {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
        },
    }
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, help="a finished run (default: train one)")
    options = parser.parse_args()
    box = ROOT / "pretrained" / "box" / NAME
    with tempfile.TemporaryDirectory() as work:
        run = options.run or made(Path(work))
        with new_folder(box) as folder:
            pack(run, Path(folder))
    size = sum(path.stat().st_size for path in box.rglob("*") if path.is_file())
    print(f"{box.relative_to(ROOT)}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
