"""Start a training from given weights; a head of another size is left out and named."""

import logging
from pathlib import Path

from torch import Tensor, nn

from ..models import read_checkpoint

logger = logging.getLogger(__name__)

_WRAPPERS = ("model_ema", "model", "state_dict", "net", "module")
_OUR_OWN = (".threshold", ".floor")  # a plain network has no quantiser; ours keeps its start


def load_initial_weights(model: nn.Module, path: Path, num_classes: int) -> list[str]:
    """Copy the weights in a file into `model`, in place.

    Args:
        path: a checkpoint of ours, a state dict (bare, or under model / state_dict), or
            safetensors.
        num_classes: outputs of `model`; tensors that differ in this first axis alone are the
            head.

    Returns: names of the tensors that were left out (the head).

    Raises:
        ValueError: unreadable file, or weights of another architecture.
    """
    given = read_state_dict(path)
    own = model.state_dict()
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
    unknown = [name for name in given if name not in own]
    if wrong or missing or unknown:
        raise ValueError(
            f"the weights in {path} are of another architecture: "
            f"{_named('missing', missing)}{_named('unknown', unknown)}"
            f"{_named('of another shape', wrong)}choose the --cfg (and "
            "MODEL.OVERRIDES) that the weights were made with"
        )
    model.load_state_dict(
        {name: tensor for name, tensor in given.items() if name not in head}, strict=False
    )
    logger.info(
        "started from %s: %d tensors taken%s",
        path,
        len(given) - len(head),
        f"; left out, as the head has another size: {', '.join(head)}" if head else "",
    )
    return head


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, out of its wrappers, without a `module.` prefix."""
    path = Path(path)
    if path.suffix == ".safetensors":
        content = _read_safetensors(path)
    else:
        content = read_checkpoint(path)
    for _ in range(3):
        inner = next(
            (
                content[key]
                for key in _WRAPPERS
                if isinstance(content, dict) and isinstance(content.get(key), dict)
            ),
            None,
        )
        content = content if inner is None else inner
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(tensor, Tensor) for tensor in content.values())
    ):
        raise ValueError(
            f"{path} holds no state dict (names and tensors, bare or under `model` or "
            "`state_dict`); save one with torch.save(model.state_dict(), PATH)"
        )
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ValueError(f"there is no file {path}; name the weights to start from")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is no readable safetensors file ({error}); restore it") from error


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
