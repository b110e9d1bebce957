import pytest

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
