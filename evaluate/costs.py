"""The costs of a record: operations, energy, and the fair rival, the network's quantised twin."""

import math

from ..counting import Operation, Totals
from .energy import ENERGY_MODELS, EnergyModel
from .records import Record

_COUNTS = (
    "macs",
    "acs",
    "synaptic_operations",
    "other_operations",
    "energy_millijoules",
    "spikes_per_synapse",
    "energy_to_quantised",
    "firing_rate",
    "energies",
    "rate_times_operations",
    "spike_driven_share",
    "layers",
)


def put_costs(
    record: Record, totals: Totals | None, twin: Totals | None, energy: EnergyModel, kind: str
) -> None:
    """Fill in everything that counting gives; what it does not give is null with its reason.

    Args:
        totals: counts of the model itself; None if nothing was counted.
        twin: counts that hold the quantised twin's activations.
    """
    record.energy_model = energy.name
    if totals is None:
        for key in _COUNTS:
            record.put(key, None, "counting was switched off")
        return
    silent = _why_silent(totals) if kind != "ann" else ""
    record.macs = totals.macs
    for key in ("acs", "synaptic_operations"):
        record.put(key, None if silent else totals.acs, silent or "-")
    record.other_operations = totals.other
    record.put("energy_millijoules", None if silent else energy.millijoules(totals), silent or "-")
    record.layers = [_layer(op) for op in totals.operations]
    _put_spiking(record, totals, kind, silent)
    bits, why = _bits(record, kind)
    if twin is None or twin.twin_operations is None:
        why = why or (twin.twin_unknown if twin else "")
    models = {**ENERGY_MODELS, energy.name: energy}
    energies = {
        name: _energies(model, totals, twin, bits, silent) for name, model in models.items()
    }
    record.energies = energies
    record.put(
        "energy_to_quantised",
        energies[energy.name]["to_quantised"],
        silent or why or "the quantised twin does nothing on these images",
    )


def _put_spiking(record: Record, totals: Totals, kind: str, silent: str) -> None:
    if kind == "ann":
        for key in (
            "spikes_per_synapse",
            "firing_rate",
            "rate_times_operations",
            "spike_driven_share",
        ):
            record.put(key, None, "an ANN has no spikes")
        return
    per_synapse = None if silent or not totals.synapses else totals.acs / totals.synapses
    record.put("spikes_per_synapse", per_synapse, silent or "no synapses lie behind spikes")
    record.put(
        "firing_rate", totals.firing_rate or None, "the model's neurons are of no known class"
    )
    record.put("rate_times_operations", None if silent else totals.rate_estimate, silent or "-")
    record.put("spike_driven_share", totals.spike_driven_share, "there are no weight layers")


def _why_silent(totals: Totals) -> str:
    """Why a count of accumulations would be a silent number; empty if it would not."""
    if totals.sites and totals.spikes == 0:
        return (
            "no spikes at all: no neuron fired on any image; look at the thresholds, at "
            "uninitialised statistics, or give more time steps"
        )
    if not totals.sites and totals.acs == 0:
        return (
            "no spikes were recognised: no neuron of a known class, and no layer sees values "
            "of a spike alphabet"
        )
    return ""


def _bits(record: Record, kind: str) -> tuple[int | None, str]:
    """Bits of an activation of the quantised twin."""
    if kind == "ann":
        return None, "an ANN is compared with, not compared"
    if kind == "direct":
        return math.ceil(math.log2(record.timesteps + 1)), ""
    if not record.levels:
        return None, "the conversion does not say its levels"
    return math.ceil(math.log2(record.levels + 1)), ""


def _energies(
    model: EnergyModel, totals: Totals, twin: Totals | None, bits: int | None, silent: str
) -> dict:
    """One energy model's figures: millijoules, the twin's, and their ratio."""
    own = None if silent else model.millijoules(totals)
    rival = model.quantised_millijoules(twin, bits) if twin is not None and bits else None
    ratio = own / rival if own is not None and rival else None
    return {
        "millijoules": own,
        "quantised_millijoules": rival,
        "to_quantised": ratio,
        "source": model.source,
    }


def _layer(op: Operation) -> dict:
    return {
        "name": op.name,
        "kind": op.kind,
        "detail": op.detail,
        "input": op.input,
        "macs": op.macs,
        "acs": op.acs,
        "rate_times_operations": op.rate_estimate,
        "synapses": op.synapses,
    }
