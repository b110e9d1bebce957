import subprocess
import sys

import pytest

from spikeswap.commands.main import COMMANDS

HEAVY = ("timm", "torchvision", "matplotlib", "tensorboard", "sklearn", "pandas")
LOADED = """
try:
    {}
finally:
    loaded = [name for name in {} if name in sys.modules]
    if loaded:
        sys.exit(str(loaded))
"""
COMMON = ("--device", "--seed")
FLAGS = {
    "train_qcfs.py": "cfg data data-path download val-fraction img-size epochs batch-size lr mask "
    "output init resume set",
    "train_direct.py": "cfg data data-path download val-fraction img-size epochs batch-size lr "
    "output init resume set",
    "convert.py": "run weights cfg data data-path T mask mask-scaling neuron attention readout "
    "calibrate calibration-images tag no-check method levels sites timm torchvision model classes "
    "img-size mean std weights-prefix",
    "eval.py": "run tag output data data-path split limit img-size timesteps batch-size chunk "
    "early-exit",
    "bench.py": "json",
    "export.py": "run tag to bits images output",
    "frontier.py": "run within timesteps neurons limit",
    "demo.py": "output limit",
}


@pytest.mark.parametrize("name", FLAGS)
def test_every_flag_of_the_contract_is_there_with_its_default(name, tool, tmp_path):
    said = tool(name, "--help", cwd=tmp_path).worked()
    for flag in (*COMMON, *(f"--{word}" for word in FLAGS[name].split())):
        assert f"\n  {flag}" in said, flag
    flags = said[said.index("options:") :].split("\n  --")[1:]
    assert all("default" in text for text in flags), [t for t in flags if "default" not in t]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_answers_without_the_heavy_packages(name):
    code = f"import sys; sys.argv = ['spikeswap', {name!r}, '--help']\n" + LOADED.format(
        "from spikeswap.commands.main import main; main()", ("torch", "numpy", *HEAVY)
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_the_library_loads_what_it_needs_alone():
    rooms = ", ".join(
        f"spikeswap.{n}" for n in "convert evaluate snn train models calibrate".split()
    )
    code = LOADED.format(f"import sys, {rooms}", HEAVY)
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
