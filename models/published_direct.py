"""Official checkpoints of the direct-trained networks: their key layout, strictly.

Spikingformer, Spike-driven Transformer and SpikingResformer have the published keys themselves,
so that only wrappers and prefixes come off; nothing is dropped or guessed.
"""

import torch

from ..support.state_dicts import unwrap
from .direct import DirectNetwork

SHOWN = 12  # differing keys that an error spells out


def direct_state_dict(
    model: DirectNetwork, raw_state_dict: dict
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """(state dict that fits `model` strictly, its keys that the network never uses).

    Args:
        model: the network that the checkpoint is for.
        raw_state_dict: a checkpoint as read, in wrappers or without. Half-precision buffers are cast
            to the model's precision.

    Raises:
        ValueError: a key is missing, unknown or of another shape.
    """
    raw = unwrap(raw_state_dict, "the checkpoint")
    own = model.state_dict()
    problems = [f"missing: {key}" for key in own if key not in raw]
    problems += [f"unknown: {key}" for key in raw if key not in own]
    state_dict = {}
    for key, expected in own.items():
        value = raw.get(key)
        if value is None:
            continue
        if value.shape != expected.shape:
            problems.append(
                f"other shape: {key} is {tuple(value.shape)}, the model has {tuple(expected.shape)}"
            )
        else:
            state_dict[key] = value.to(expected.dtype)
    if problems:
        more = len(problems) - SHOWN
        shown = "; ".join(problems[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise ValueError(
            f"the checkpoint does not fit this {type(model).__name__}: {shown}. Build "
            f"the variant that it was saved from (create_model's overrides, "
            f"num_classes=)"
        )
    return state_dict, model.unused_keys()
