"""A traced graph must compute what the model does: the two are compared on an image of noise."""

import contextlib
import warnings

import torch
from torch import fx, nn

from .copying import copy_model
from .errors import FAILURES, Offence, UnconvertibleError
from .example_images import LARGEST_SIZE, like_weights, possible_shapes

_REMEDY = (
    "it may be random in eval mode, change tensors in place through a view, or keep state; make it "
    "a pure function of the image"
)


@torch.no_grad()
def check_numbers(model: nn.Module, gm: fx.GraphModule) -> None:
    """Refuse a graph that does not compute what the model does on an example of noise.

    Where no example is known, usual sizes are tried, then any that fits; the model must give the same
    twice. The caller's model and random numbers stay as they were.

    Raises:
        UnconvertibleError: the numbers differ, also from call to call, the graph fails where the
            model runs, or no size of image is known to fit.
    """
    given = gm.meta["example"]
    traced_with = gm.meta.get("traced_with")
    if gm.meta.get("offences"):
        return
    known = [tuple(given.shape)] if given is not None else []
    known = [(2, *traced_with[1:])] if not known and traced_with is not None else known
    with _same_random_numbers(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model's own, told when the caller runs it
        original = copy_model(model).eval()
        for shape in known or possible_shapes(original):
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
            noise = like_weights(model, noise) if given is None else noise.to(given)
            try:
                expected = original(noise.clone())
                again = expected if given is not None else original(noise.clone())
            except FAILURES:
                continue
            if _is_finite_tensor(expected) and _is_finite_tensor(again):
                if not torch.allclose(expected, again, rtol=1e-3, atol=1e-4):
                    raise _offence("gives other numbers in a second call", _REMEDY)
                _compare(expected, gm, noise)
            return
    what = (
        f"its numbers cannot be checked: it runs on no square image of up to {LARGEST_SIZE} pixels"
    )
    raise _offence(what, "give example_inputs=images of the size that it is made for")


def _is_finite_tensor(value) -> bool:
    return isinstance(value, torch.Tensor) and bool(value.isfinite().all())


def _compare(expected: torch.Tensor, gm: fx.GraphModule, noise: torch.Tensor) -> None:
    try:
        got = gm.eval().forward(noise.clone())  # __call__ would print a failure
    except FAILURES as error:
        what = f"the traced graph fails on images of shape {tuple(noise.shape)} ({error})"
        raise _offence(what, "give example_inputs=images") from error
    if not isinstance(got, torch.Tensor):
        return
    if got.shape != expected.shape:
        what = f"tracing changed the shape of its output: {tuple(got.shape)}"
        raise _offence(f"{what}, not {tuple(expected.shape)}", _REMEDY)
    if not torch.allclose(got, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max() + 1e-9)):
        worst = float((got - expected).abs().max())
        raise _offence(f"tracing changed its numbers (by up to {worst:.3g})", _REMEDY)


def _offence(what: str, remedy: str) -> UnconvertibleError:
    return UnconvertibleError([Offence("(the whole model)", what, None, remedy)])


@contextlib.contextmanager
def _same_random_numbers(model: nn.Module):
    """What a model that is random in eval mode draws inside is drawn again outside."""
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.is_cuda})
    with torch.random.fork_rng(devices=devices):
        yield
