"""Official checkpoints, loaded strictly into our models."""

from torch import nn

from ..neurons import QCFS
from ..support.state_dicts import read_state_dict, unwrap
from .direct import DirectNetwork
from .published_direct import direct_state_dict

# Published names of a threshold, after the name of its activation.
_THRESHOLD_NAMES = ("up", "thresh")


def load_published(model: nn.Module, path_or_state_dict) -> list[str]:
    """Load an official checkpoint in place, strictly.

    Args:
        model: the model of the same layout. MST and QCFS layouts (`mst_swin_t`, `resnet18/20/34`,
            `vgg16`) before or after `insert_qcfs`; thresholds need QCFS sites. Spikingformer,
            Spike-driven Transformer and SpikingResformer as they are.
        path_or_state_dict: a checkpoint file, or what it holds (wrappers such as `model` and
            `state_dict`, and prefixes such as `module.` are taken off).

    Returns:
        Names of checkpoint entries that are known and not used (buffers that the model computes).

    Raises:
        ValueError: a file that cannot be read, a key that is missing or left over, another shape;
            all of them are named, and the model is left as it was.
    """
    if isinstance(path_or_state_dict, dict):
        state = unwrap(path_or_state_dict, "the checkpoint")
    else:
        state = read_state_dict(path_or_state_dict)
    if isinstance(model, DirectNetwork):
        state, unused = direct_state_dict(model, state)
        model.load_state_dict(state)
        return unused
    sites = {name: m for name, m in model.named_modules() if isinstance(m, QCFS)}
    target = {
        key: value
        for key, value in model.state_dict().items()
        if key.rpartition(".")[0] not in sites
    }
    used, thresholds, unused, problems = {}, {}, [], []
    for key, value in state.items():
        owner, _, last = _modern_name(key).rpartition(".")
        name = f"{owner}.{last}" if owner else last
        if last in _THRESHOLD_NAMES:
            if owner in sites:
                thresholds[owner] = value
                if not bool(value.isfinite().all()):
                    problems.append(f"{key} is infinite, no threshold")
            else:
                problems.append(
                    f"{key} is a threshold, and the model has no QCFS site {owner!r}"
                    + ("" if sites else ": call insert_qcfs first")
                )
        elif name in target:
            if target[name].shape != value.shape:
                problems.append(
                    f"{key} has shape {tuple(value.shape)}, the model {tuple(target[name].shape)}"
                )
            used[name] = value
        elif last in ("attn_mask", "relative_position_index"):
            unused.append(key)  # constants of the layout
        else:
            problems.append(f"{key} has no place in the model")
    missing = [key for key in target if key not in used and not _is_constant(key)]
    missing += [f"{name} (threshold)" for name in sites if thresholds and name not in thresholds]
    problems += [f"{key} is missing in the checkpoint" for key in missing]
    if problems:
        shown = "; ".join(problems[:8]) + (
            f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        )
        raise ValueError(
            f"the checkpoint does not fit the model: {shown}. Check the variant "
            "(dataset=, num_classes=, depths=)"
        )
    model.load_state_dict({k: v for k, v in used.items() if not _is_constant(k)}, strict=False)
    for name, value in thresholds.items():
        sites[name].set_threshold(value.reshape(-1))
    return unused + [k for k in used if _is_constant(k)]


def _modern_name(key: str) -> str:
    """Names that older published files use."""
    return key.replace("relu.up", "act.thresh") if key.endswith("relu.up") else key


def _is_constant(key: str) -> bool:
    return key.rpartition(".")[2] in ("attn_mask", "relative_position_index", "num_batches_tracked")
