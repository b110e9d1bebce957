"""State dicts of any origin: out of their wrappers, without foreign prefixes, with possible values."""

from collections.abc import Collection

import torch
from torch import Tensor

from .tensor_pickle import DTYPES, Name, Stranger
from .weight_files import SAVE, read_checkpoint

PREFIXES = ("module.", "model.", "_orig_mod.")  # of data parallel, of a trainer, of torch.compile
PLAIN = ("state_dict", "model", "model_state_dict", "net", "module")
AVERAGED = ("model_ema", "state_dict_ema")
_NESTED = 4  # wrappers within wrappers
_REAL = {dtype for dtype in DTYPES.values() if not dtype.is_complex}
_NEVER_NEGATIVE = {"running_var": "variance", "threshold": "threshold"}
_NEVER_NEGATIVE |= {"up": "threshold", "thresh": "threshold"}  # names of published files


def read_state_dict(path, averaged: bool = False, known: Collection[str] = ()) -> dict[str, Tensor]:
    """The state dict in a weight file.

    Args:
        path: a PyTorch checkpoint or safetensors.
        averaged, known: as in `unwrap`.

    Raises:
        ValueError: no such file, unreadable, no state dict, or weights that no network can have.
    """
    return unwrap(read_checkpoint(path), f"checkpoint {path}", averaged, known)


def unwrap(
    content, where: str, averaged: bool = False, known: Collection[str] = ()
) -> dict[str, Tensor]:
    """The tensors of a checkpoint, out of wrappers such as `model`, without prefixes as `module.`.

    Args:
        content: what a checkpoint holds.
        where: its name in messages.
        averaged: take averaged weights rather than plain ones where it has both.
        known: names of the network; a prefix that they have too stays.

    Raises:
        ValueError: no state dict, or weights that no network can have; names the first of them.
    """
    wrappers = AVERAGED + PLAIN if averaged else PLAIN + AVERAGED
    for _ in range(_NESTED):
        inner = [
            content[key] for key in wrappers if isinstance(content, dict) and _holds(content, key)
        ]
        content = inner[0] if inner else content
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{where} holds no state dict but {_described(content)}; {SAVE}")
    check_state_dict(content, where)
    state = dict(content)
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in state)), None):
        if any(key in known for key in state):
            break
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def check_state_dict(state: dict, where: str) -> None:
    """ValueError unless every entry is a name with real, finite and possible numbers."""
    wrong = [text for name, value in state.items() if (text := _fault(name, value))]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ValueError(
            f"{where} holds no state dict of a network: {wrong[0]}{more}; {SAVE} from a network of "
            "real numbers in one piece"
        )


def _holds(content: dict, key: str) -> bool:
    return isinstance(content.get(key), dict) and bool(content[key])


def _fault(name, value) -> str | None:
    """What is wrong with one entry, or None."""
    if not isinstance(name, str):
        return f"its key {str(getattr(name, 'text', name))[:80]} is no name"
    shown = repr(name[:80])
    if not isinstance(value, Tensor):
        return f"{shown} is no tensor but {_described(value)}"
    if value.layout != torch.strided or value.is_meta:
        return f"{shown} is {'meta (without values)' if value.is_meta else 'sparse'}"
    if value.dtype not in _REAL:
        return f"{shown} has data type {value.dtype}"
    if value.is_floating_point() and bool(value.isnan().any()):
        return f"{shown} holds NaN"
    negative = _NEVER_NEGATIVE.get(name.rpartition(".")[2])
    if negative and not bool((value >= 0).all()):
        return f"{shown} is a {negative} below 0 ({float(value.min()):.4g})"
    return None


def _described(value) -> str:
    """What stands where a tensor or a state dict should."""
    if isinstance(value, Stranger):
        return f"a pickled {value.kind[:80]}"
    if isinstance(value, Name):
        return f"the class {value.text[:80]}"
    if isinstance(value, dict) and not value:
        return "an empty dictionary"
    return f"a {type(value).__name__}"
