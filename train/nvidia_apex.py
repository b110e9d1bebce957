"""NVIDIA Apex, if it is there and is the real one.

Its fused optimizers are used only when the configuration asks for one (`fusedadamw`, ...). The
package that `pip install apex` brings is another thing, a web-authentication toolkit.
"""

import importlib.util

_NEXT_STEP = (
    "choose the optimizer without `fused` (adamw, sgd, lamb), or build NVIDIA Apex from "
    "its own repository"
)


def has_nvidia_apex() -> bool:
    """Whether the installed `apex` is NVIDIA's (it has `apex.optimizers`)."""
    try:
        return importlib.util.find_spec("apex.optimizers") is not None
    except ImportError:  # no apex at all, or one that cannot be imported here
        return False


def require_nvidia_apex(wanted_by: str) -> None:
    """Say clearly why a fused optimizer cannot be had.

    Args:
        wanted_by: what asks for Apex, for the message.

    Raises:
        ValueError: Apex is not installed, or another package of that name is.
    """
    if has_nvidia_apex():
        return
    if importlib.util.find_spec("apex") is not None:
        raise ValueError(
            f"{wanted_by} needs NVIDIA Apex, but the installed package `apex` is the "
            f"web-authentication toolkit of the same name; {_NEXT_STEP}"
        )
    raise ValueError(f"{wanted_by} needs NVIDIA Apex, which is not installed; {_NEXT_STEP}")
