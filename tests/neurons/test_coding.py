"""What the two codings decide, and that nothing else in the library compares their names."""

import re
from pathlib import Path

import pytest
import torch

from spikeswap.neurons import CODINGS, NEURONS, READOUTS, Accumulate

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("coding", CODINGS.values(), ids=str)
def test_running_value_and_total_are_inverse(coding):
    total = torch.randn(3, 5, dtype=torch.double)
    torch.testing.assert_close(coding.total(coding.running(total, 7), 7), total)
    out = torch.empty_like(total)
    coding.running(total, 7, out=out)
    assert torch.equal(out, coding.running(total, 7))


@pytest.mark.parametrize("coding", CODINGS.values(), ids=str)
def test_window_of_a_readout_is_what_it_averages(coding):
    steps = torch.randn(9, 2, dtype=torch.double)
    for readout in coding.readouts:
        found = coding.read(steps.cumsum(0), readout)
        for t in range(1, 10):
            window = coding.window(readout, t)
            part = steps[:t].sum(0) if window is None else steps[window[0] - 1 : window[1]].mean(0)
            torch.testing.assert_close(found[t - 1], part)


@pytest.mark.parametrize("coding", CODINGS.values(), ids=str)
def test_each_coding_names_its_choices(coding):
    assert set(coding.readouts) <= set(READOUTS) and "mean" in coding.readouts
    assert all(coding.words(name) for name in coding.readouts)
    assert Accumulate(coding.name).rule is coding


def test_every_neuron_has_a_coding():
    assert {cls.coding for cls in NEURONS.values()} == set(CODINGS.values())


def test_nothing_compares_names_of_codings_or_neurons():
    compares = re.compile(r"[=!]= \"(rate|cumulative|if|stbif|multi|second-half)\"")
    folders = "neurons snn convert counting evaluate calibrate report commands".split()
    wrong = [
        f"{path.relative_to(ROOT)}: {found.group()}"
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        for found in compares.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)
