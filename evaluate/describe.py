"""What a model is, in the words of a record: neuron, alphabet, readout, masks."""

from torch import nn

from ..counting import Totals
from ..counting.modules import is_spikingjelly_neuron
from ..neurons import SeededMask, SpikeMask
from .records import Record


def describe(model, kind: str, timesteps: int | None, totals: Totals | None) -> Record:
    """The part of a record that says what was evaluated."""
    out = Record()
    module = isinstance(model, nn.Module)
    parameters = sum(p.numel() for p in model.parameters()) if module else None
    out.put("parameters", parameters, "the model is no torch module")
    out.put("timesteps", timesteps, "an ANN has no time steps")
    if kind == "converted":
        info = model.info
        same = ("neuron", "spike_values", "attention", "readout", "mask", "seed", "levels")
        for column in (*same, "mask_scaling"):
            setattr(out, column, getattr(info, column))
        fitted = info.calibration
        out.calibration = fitted.method if fitted else None
        out.calibration_parameters = {
            "thresholds": fitted.threshold_parameters if fitted else 0,
            "step_bias": fitted.bias_parameters if fitted else 0,
        }
        return out
    masks = sorted(
        {m.ratio for m in model.modules() if isinstance(m, (SpikeMask, SeededMask))}
        if isinstance(model, nn.Module)
        else ()
    )
    out.levels = _levels(model)
    if kind == "ann":
        for key in ("neuron", "spike_values", "attention", "readout"):
            out.put(key, None, "an ANN has no spikes")
        out.mask = masks[-1] if masks else 0.0
        return out
    out.put("neuron", _neuron_names(model), "the model's neurons are of no known class")
    out.put("spike_values", _spike_values(totals), "no spikes were recognised")
    out.put("attention", None, "said of converted networks only")
    ours = hasattr(model, "step_logits")
    out.put("readout", "mean" if ours else None, "the model returns its own readout")
    out.mask = masks[-1] if masks else 0.0
    return out


def _levels(model) -> int | None:
    """L of the model's QCFS sites."""
    if not isinstance(model, nn.Module):
        return None
    levels = {m.levels for m in model.modules() if type(m).__name__ == "QCFS"}
    return max(levels) if levels else None


def _neuron_names(model) -> str | None:
    if not isinstance(model, nn.Module):
        return None
    names = sorted({type(m).__name__ for m in model.modules() if is_spikingjelly_neuron(m)})
    return ", ".join(names) or None


def _spike_values(totals: Totals | None) -> list[int] | None:
    """Every value that a neuron was seen to send, in units: [0, 1], [-1, 0, 1], [0, 1, 2] ..."""
    if totals is None or not totals.sites:
        return None
    alphabets = [site.alphabet for site in totals.sites.values()]
    if any(alphabet.analog for alphabet in alphabets):
        return None
    top = max((alphabet.levels for alphabet in alphabets), default=0)
    low = -top if any(alphabet.signed for alphabet in alphabets) else 0
    return list(range(low, max(1, top) + 1))
