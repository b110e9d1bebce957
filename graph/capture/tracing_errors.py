"""Where in the user's model the tracer is, and what a failure there means to the user."""

import linecache
import os
import sys
import traceback
from pathlib import Path

import torch
from torch import fx

from ..errors import Offence
from ..image_size import is_about_shapes

_PACKAGE = __name__.removesuffix("graph.capture.tracing_errors")
_OURS = tuple(
    f"{_PACKAGE}{part}." for part in ("graph", "convert", "calibrate", "neurons", "support")
)
_TORCH = f"{Path(torch.__file__).parent}{os.sep}"
_STANDARD = f"{Path(os.__file__).parent}{os.sep}"


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


class ExampleFails(CannotFollow):
    """An operation fails on the example images.

    Attributes:
        misfit: because of their size.
    """

    def __init__(self, inputs, error: Exception):
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        shapes = " and ".join(str(tuple(x.shape)) for x in inputs)
        self.misfit = isinstance(error, AssertionError) or is_about_shapes(error)
        if self.misfit:
            super().__init__(
                f"images of shape {shapes} do not fit ({reason})",
                "give a batch of images [B, C, H, W] of the size that the network is made for (as "
                "example_inputs=, or in the loader)",
            )
        else:
            super().__init__(f"it fails ({reason})", "make the network run on such images first")


class NeedsExample(CannotFollow):
    """A size is asked for, and no image is known."""

    def __init__(self):
        super().__init__(
            "it asks for a size of the image",
            "give example_inputs=images, so that control flow on shapes can be followed",
        )


def _is_users(frame) -> bool:
    filename, module = frame.f_code.co_filename, f"{frame.f_globals.get('__name__', '')}."
    if module.startswith(_OURS) or filename.startswith((_TORCH, "<")):
        return False
    return not filename.startswith(_STANDARD) or "site-packages" in filename


def user_frame() -> tuple[str, int] | None:
    """File and line, in the user's model, of the operation that is being traced.

    Of a network of torch's own containers, which has no line of its own, the line that asked for it.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if _is_users(frame):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None


def explain(error: Exception, stack: dict, example_given: bool) -> Offence:
    """A tracing failure in the user's terms.

    Args:
        stack: the tracer's module stack when it failed.
        example_given: the user gave example_inputs, which need not be asked for.
    """
    lines = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if _is_users(frame)
    ]
    path = (next(reversed(stack), "") if stack else "").split("@")[0]
    place = lines[-1] if lines else None
    line = linecache.getline(*place).strip() if place else ""
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
    if not getattr(error, "misfit", False):
        remedy = f"{remedy}, or {leaf}"
    return Offence(
        path or "(the model itself)",
        f"cannot be traced: {reason}{where}",
        place,
        remedy,
    )
