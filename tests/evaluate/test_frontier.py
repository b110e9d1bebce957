"""Frontier and advice, on settings made by hand."""

import pytest

from spikeswap.evaluate.frontier import advice, cheapest, mark_frontier, standard_error


def row(name, top1, millijoules, agreement=100.0, images=100, ann=90.0):
    return {
        "setting": name,
        "top1": top1,
        "loss": ann - top1,
        "standard_error": standard_error(agreement, images),
        "energy_millijoules": millijoules,
    }


def test_the_frontier_is_what_nothing_beats():
    rows = [row("a", 80, 1.0), row("b", 85, 2.0), row("c", 84, 3.0), row("d", 90, 4.0)]
    rows += [row("e", 90, 4.0), row("f", 90, None), row("g", 80, 1.5)]
    mark_frontier(rows)
    # d and e are equal, so neither beats the other
    assert [r["setting"] for r in rows if r["on_frontier"]] == ["a", "b", "d", "e"]


def test_the_cheapest_has_a_standard_error_to_spare():
    sure, doubtful = row("sure", 89.8, 2.0), row("doubtful", 89.8, 1.0, agreement=96.0)
    assert doubtful["standard_error"] == pytest.approx(2.0)  # 100 sqrt(0.04 / 100)
    assert cheapest([doubtful, sure], 0.5) is sure
    assert cheapest([doubtful], 0.5) is doubtful
    assert cheapest([row("far", 80, 1.0)], 0.5) is None
    assert cheapest([row("uncounted", 90, None)], 0.5) is None
    assert cheapest([row("edge", 89.5, 1.0)], 0.5) is not None


def test_the_sentence():
    rows = [row("multi, T = 4", 89.8, 0.5), row("if, T = 64", 90.1, 3.0)]
    said = advice(rows, 0.5, 90.0, 100)
    assert said == (
        "The cheapest of 2 settings within 0.5 points of the ANN's 90.00 % on 100 images is multi, "
        "T = 4: 89.80 % (0.20 points lost, standard error at most 0.00) at 0.5 mJ per image."
    )
    assert "0.10 points won" in advice(rows[1:], 0.5, 90.0, 100)
    assert "too much to be sure" in advice([row("x", 90, 1.0, agreement=90)], 0.5, 90.0, 100)
    none = advice([row("x", 50, 1.0)], 0.5, 90.0, 100)
    assert none.startswith("None of 1 settings") and "loses 40.00 points" in none
