"""Start a training from given weights; a head of another size is left out and named."""

import logging
from pathlib import Path

from torch import Tensor, nn

from ..support.state_dicts import read_state_dict

logger = logging.getLogger(__name__)

_OUR_OWN = (".threshold", ".floor")  # a plain network has no quantiser; ours keeps its start


def load_initial_weights(model: nn.Module, path: Path, num_classes: int) -> list[str]:
    """Copy the weights in a file into `model`, in place.

    Args:
        path: a checkpoint of ours (averaged weights go before plain ones), a state dict in
            wrappers or without, or safetensors.
        num_classes: outputs of `model`; tensors that differ in this first axis alone are the
            head.

    Returns: names of the tensors that were left out (the head).

    Raises:
        ValueError: unreadable file, or weights of another architecture.
    """
    own = model.state_dict()
    given = read_state_dict(path, averaged=True, known=own)
    head = [
        name
        for name, tensor in own.items()
        if name in given and _is_other_head(tensor, given[name], num_classes)
    ]
    wrong = [
        f"{name} {tuple(given[name].shape)} here {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in given and name not in head and given[name].shape != tensor.shape
    ]
    missing = [name for name in own if name not in given and not name.endswith(_OUR_OWN)]
    unknown = [name for name in given if name not in own and not name.endswith(_OUR_OWN)]
    if wrong or missing or unknown:
        raise ValueError(
            f"the weights in {path} are of another architecture: "
            f"{_named('missing', missing)}{_named('unknown', unknown)}"
            f"{_named('of another shape', wrong)}choose the --cfg (and "
            "MODEL.OVERRIDES) that the weights were made with"
        )
    taken = {name: given[name] for name in own if name in given and name not in head}
    model.load_state_dict(taken, strict=False)
    logger.info(
        "started from %s: %d tensors taken%s",
        path,
        len(taken),
        f"; left out, as the head has another size: {', '.join(head)}" if head else "",
    )
    return head


def _is_other_head(own: Tensor, given: Tensor, num_classes: int) -> bool:
    return (
        own.dim() >= 1
        and own.dim() == given.dim()
        and own.shape[0] == num_classes
        and own.shape[0] != given.shape[0]
        and own.shape[1:] == given.shape[1:]
    )


def _named(what: str, names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"{len(names)} {what} ({shown}); "
