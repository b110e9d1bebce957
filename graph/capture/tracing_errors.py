"""Where in the user's model the tracer is, and what a failure there means to the user."""

import linecache
import os
import sys
import traceback
from pathlib import Path

import torch
from torch import fx

from ..errors import Offence

_ROOT = Path(__file__).resolve().parents[2]
_OURS = tuple(f"{_ROOT / part}{os.sep}" for part in ("graph", "convert", "calibrate", "neurons"))
_TORCH = f"{Path(torch.__file__).resolve().parent}{os.sep}"
_STANDARD = f"{Path(os.__file__).resolve().parent}{os.sep}"

# What a forward function may raise when it is traced.
FAILURES = (
    fx.proxy.TraceError,
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    NameError,
    LookupError,
    NotImplementedError,
    AssertionError,
)


class CannotFollow(fx.proxy.TraceError):
    """A line of the model that the tracer cannot follow.

    Args:
        reason: what the line does.
        remedy: what to write in its place.
    """

    def __init__(self, reason: str, remedy: str):
        super().__init__(reason)
        self.remedy = remedy


class BatchDecides(CannotFollow):
    """The number of images is turned into a Python number.

    Attributes:
        space: the globals of the file that calls int() there, if it does.
    """

    def __init__(self):
        super().__init__(
            "the batch size is turned into a number",
            "use -1 for the batch axis, as in view(-1, ...)",
        )
        self.space: dict | None = None


class ExampleDoesNotFit(CannotFollow):
    """An operation fails on the example images."""

    def __init__(self, shape, error: Exception):
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        super().__init__(
            f"images of shape {tuple(shape)} do not fit ({reason})",
            "give a batch of images [B, C, H, W] of the size that the network is made for (as "
            "example_inputs=, or in the loader)",
        )


class NeedsExample(CannotFollow):
    """A size is asked for, and no image is known."""

    def __init__(self):
        super().__init__(
            "it asks for a size of the image",
            "give example_inputs=images, so that control flow on shapes can be followed",
        )


def _is_users(filename: str) -> bool:
    if filename.startswith((*_OURS, _TORCH)) or filename.startswith("<"):
        return False
    return not filename.startswith(_STANDARD) or "site-packages" in filename


def user_frame() -> tuple[str, int] | None:
    """File and line, in the user's model, of the operation that is being traced.

    Of a network of torch's own containers, which has no line of its own, the line that asked for it.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if _is_users(frame.f_code.co_filename):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None


def module_path(node: fx.Node) -> str:
    """Dotted path of the module that a node lies in, "" at the root."""
    return node.meta.get("module_path", "").split("@")[0]


def explain(error: Exception, stack: dict, example_given: bool) -> Offence:
    """A tracing failure in the user's terms.

    Args:
        stack: the tracer's module stack when it failed.
        example_given: the user gave example_inputs, which need not be asked for.
    """
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename)]
    path = (next(reversed(stack), "") if stack else "").split("@")[0]
    place = frames[-1] if frames else None
    line = linecache.getline(place.filename, place.lineno).strip() if place else ""
    leaf = (
        f"mark the module as a leaf: leaf_modules=[{path!r}]"
        if path
        else "put the line into a module of its own and mark that as a leaf: leaf_modules=[...]"
    )
    if isinstance(error, CannotFollow):
        remedy = error.remedy
    elif example_given:
        remedy = "rewrite the line so that it does not depend on the values of a tensor"
    else:
        remedy = NeedsExample().remedy
    reason = str(error) or type(error).__name__
    where = f"; line: {line}" if line else ""
    if not isinstance(error, ExampleDoesNotFit):
        remedy = f"{remedy}, or {leaf}"
    return Offence(
        path or "(the model itself)",
        f"cannot be traced: {reason}{where}",
        (place.filename, place.lineno) if place else None,
        remedy,
    )
