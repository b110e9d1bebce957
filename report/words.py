"""What the numbers say, in sentences: the report's findings and each model's description."""

from collections.abc import Sequence

from ..neurons import NEURONS, RATE
from .tables import alphabet, energy, times


def describe_model(record: dict) -> str:
    """One sentence that says how a model was evaluated."""
    if record["kind"] == "ann":
        text = "ANN, one forward pass"
        if record["mask"]:
            text += f"; masked sites at their expectation (mask ratio {record['mask']:g})"
        return text + "."
    kind = {"converted": "converted SNN", "direct": "SNN trained directly"}[record["kind"]]
    parts = [
        kind,
        f"T = {record['timesteps']}",
        f"neuron {record['neuron'] or 'unknown'} sending {alphabet(record['spike_values'])}",
    ]
    if record["attention"]:
        parts.append(f"attention {record['attention']}")
    neuron = NEURONS.get(record["neuron"]) if record["kind"] == "converted" else None
    readout = (neuron.coding if neuron else RATE).words(record["readout"])
    parts.append(f"readout {readout or 'as the model returns it'}")
    parts.append(f"mask ratio {record['mask']:g}" if record["mask"] else "no masks")
    if record.get("seed") is not None:
        parts.append(f"seed {record['seed']}")
    return ", ".join(parts) + "."


def findings(records: Sequence[dict]) -> list[tuple[str, str]]:
    """(kind, sentence) pairs, kind "good", "bad" or "note": one a spiking model, and warnings."""
    found = []
    anns = {r["run"]: r for r in records if r["kind"] == "ann"}
    for record in records:
        if record["kind"] != "ann":
            ann = anns.get(record["run"]) if record["kind"] == "converted" else None
            ratio = record["energy_to_quantised"]
            kind = "note" if ratio is None else "bad" if ratio > 1 else "good"
            found.append((kind, f"{record['name']}: {_accuracy(record, ann)}; {_rival(record)}."))
    for record in records:
        if isinstance(record["batch_independent"], str):
            found.append(
                (
                    "bad",
                    f"{record['name']} leaks: {record['batch_independent']}. Its "
                    "accuracy depends on the batch and is not comparable.",
                )
            )
        found += [("note", f"{record['name']}: {note}.") for note in record.get("notes") or ()]
    return found + _flips(records)


def _accuracy(record: dict, ann: dict | None) -> str:
    if record["top1"] is None:  # another task
        error = record.get("error_to_ann")
        told = "no error known" if error is None else f"relative error {error:.3g}"
        return f"{told} after {record['timesteps']} steps"
    text = f"{record['top1']:.2f} % top-1 after {record['timesteps']} steps"
    if ann is None or ann["top1"] is None:
        return text
    gap = ann["top1"] - record["top1"]
    if abs(gap) < 0.005:
        return f"{text}, as its ANN"
    return f"{text}, {abs(gap):.2f} points {'below' if gap > 0 else 'above'} its ANN"


def _rival(record: dict) -> str:
    model = record["energy_model"]
    energies = record.get("energies") or {}
    own = energies.get(model)
    if own is None or own["to_quantised"] is None:
        return f"no comparison with its quantised network ({_reason(record)})"
    ratio = own["to_quantised"]
    text = (
        f"{energy(own['millijoules'])} per image under {model}, {times(ratio)} what its own "
        f"quantised network needs in one run ({energy(own['quantised_millijoules'])}), so it "
        f"{'loses to' if ratio > 1 else 'beats'} it"
    )
    others = {
        name: e["to_quantised"]
        for name, e in energies.items()
        if name != model and e["to_quantised"] is not None
    }
    contrary = [f"{name} ({times(r)})" for name, r in others.items() if (r > 1) != (ratio > 1)]
    if contrary:
        return f"{text}, but the verdict flips under {', '.join(contrary)}"
    return f"{text}, here as under {', '.join(others)}" if others else text


def _reason(record: dict) -> str:
    for text in record["uncounted"]:
        if text.startswith("energy_to_quantised: "):
            return text.partition(": ")[2]
    return "not counted"


def _flips(records: Sequence[dict]) -> list[tuple[str, str]]:
    """Pairs of models whose order by energy changes from one energy model to another."""
    counted = [r for r in records if r.get("energies")]
    flips = []
    for i, first in enumerate(counted):
        for second in counted[i + 1 :]:
            less, more = [], []
            for name, mine in first["energies"].items():
                other = second["energies"].get(name) or {}
                a, b = mine.get("millijoules"), other.get("millijoules")
                if a is not None and b is not None and a != b:
                    (less if a < b else more).append(name)
            if less and more:
                flips.append(
                    f"{first['name']} needs less than {second['name']} under "
                    f"{', '.join(less)} and more under {', '.join(more)}"
                )
    if not flips:
        return []
    shown = "; ".join(flips[:3]) + (f"; and {len(flips) - 3} more pairs" if len(flips) > 3 else "")
    return [("note", f"The ranking by energy flips between energy models: {shown}.")]
