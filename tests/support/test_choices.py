"""The registries of names: complete before anything heavy is imported, asked by all who choose."""

import json
import subprocess
import sys

import pytest

from spikeswap.configs import default_config
from spikeswap.configs.checks import check_values
from spikeswap.support import choices

REGISTRIES = {name: value for name, value in vars(choices).items() if name.isupper()}
BARE = ["ATTENTIONS", "PRODUCTS", "SITES"]  # names without anything behind them
NAMES = """
import json, sys
from spikeswap.support import choices
found = {name: list(value) for name, value in vars(choices).items() if name.isupper()}
print(json.dumps([found, "torch" in sys.modules]))
"""


def test_names_are_known_without_pytorch_and_their_owners_add_none():
    import spikeswap.convert
    import spikeswap.evaluate
    import spikeswap.export
    import spikeswap.report  # noqa: F401

    result = subprocess.run(
        [sys.executable, "-c", NAMES], capture_output=True, text=True, check=True
    )
    names, heavy = json.loads(result.stdout)
    assert not heavy
    assert names == {name: list(registry) for name, registry in REGISTRIES.items()}
    for name, registry in REGISTRIES.items():
        assert all((value is None) == (name in BARE) for value in registry.values()), name


@pytest.mark.parametrize("name", REGISTRIES)
def test_an_unknown_name_lists_the_known_ones(name):
    registry = REGISTRIES[name]
    assert [registry.check(known) for known in registry] == list(registry)
    for wrong in ("nothing", None, 3, ["if"]):
        with pytest.raises(
            ValueError, match=f"{registry.what} .* is unknown; known: {next(iter(registry))}"
        ):
            registry.check(wrong)


@pytest.mark.parametrize(
    "key, registry",
    [
        ("CONVERT.NEURON", choices.NEURONS),
        ("CONVERT.ATTENTION", choices.ATTENTIONS),
        ("CONVERT.READOUT", choices.READOUTS),
        ("CONVERT.MASK_SCALING", choices.SCALINGS),
        ("CONVERT.CALIBRATE", choices.CALIBRATIONS),
        ("EVAL.ENERGY", choices.ENERGY_MODELS),
    ],
)
def test_recipes_take_what_is_registered_at_the_time(key, registry, monkeypatch):
    cfg = default_config()
    group, name = key.split(".")
    cfg[group][name] = "mine"
    with pytest.raises(
        ValueError, match=f"{key} is 'mine', but must be one of .*{next(iter(registry))}"
    ):
        check_values(cfg)
    monkeypatch.setitem(registry, "mine", object())
    check_values(cfg)
