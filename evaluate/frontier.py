"""Which of many settings is worth its energy: the frontier of accuracy and energy, and one advice."""

import math
from collections.abc import Sequence


def mark_frontier(rows: Sequence[dict]) -> None:
    """Set `on_frontier` in every row: no other row has as much accuracy for less energy.

    Args:
        rows: of at least top1 (%) and energy_millijoules per image; a row without energy is off it.
    """
    for row in rows:
        mine = row["energy_millijoules"]
        row["on_frontier"] = mine is not None and not any(
            other["energy_millijoules"] is not None
            and other["top1"] >= row["top1"]
            and other["energy_millijoules"] <= mine
            and (other["top1"], -other["energy_millijoules"]) != (row["top1"], -mine)
            for other in rows
        )


def standard_error(agreement: float, images: int) -> float:
    """Of a difference of two accuracies on the same images, in points, from above.

    Only images that the two networks answer differently can count for one and against the other, so
    the variance of the difference is at most their share.

    Args:
        agreement: per cent of images with the same answer.
    """
    return 100 * math.sqrt(max(0.0, 1 - agreement / 100) / images)


def cheapest(rows: Sequence[dict], within: float) -> dict | None:
    """The row of least energy that loses at most `within` points, with a standard error to spare.

    Args:
        rows: of at least loss and standard_error (points) and energy_millijoules.

    Returns:
        None if there is none. Where no row has the standard error to spare, one that loses at most
        `within` by its own estimate.
    """
    for spare in (1, 0):
        good = [r for r in rows if r["loss"] + spare * r["standard_error"] <= within + 1e-9]
        good = [r for r in good if r["energy_millijoules"] is not None]
        if good:
            return min(good, key=lambda r: (r["energy_millijoules"], r["loss"]))
    return None


def advice(rows: Sequence[dict], within: float, ann_top1: float, images: int) -> str:
    """One sentence: the cheapest setting within a loss, or how near the nearest comes."""
    best = cheapest(rows, within)
    where = f"{within:g} points of the ANN's {ann_top1:.2f} % on {images} images"
    if best is None:
        near = min(rows, key=lambda r: r["loss"])
        return (
            f"None of {len(rows)} settings is within {where}; the nearest, {near['setting']}, loses "
            f"{near['loss']:.2f} points: try a larger T or another neuron."
        )
    side = "won" if best["loss"] < 0 else "lost"
    error = f"{abs(best['loss']):.2f} points {side}, standard error at most {best['standard_error']:.2f}"
    doubt = ""
    if best["loss"] + best["standard_error"] > within:
        doubt = ", too much to be sure: give more images"
    return (
        f"The cheapest of {len(rows)} settings within {where} is {best['setting']}: "
        f"{best['top1']:.2f} % ({error}{doubt}) at {best['energy_millijoules']:.3g} mJ per image."
    )
