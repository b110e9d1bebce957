"""A traced graph must compute what the model does: the two are compared on an image of noise."""

import contextlib
import warnings

import torch
from torch import fx, nn

from ..support.structure import inputs_of, tensors_of
from .copying import copy_model
from .errors import FAILURES, Offence, UnconvertibleError
from .example_images import LARGEST_SIZE, like_weights, possible_shapes
from .inputs import input_names
from .outputs import output_nodes

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
    given = None if given is None else inputs_of(given)
    known = [[x.shape for x in given]] if given is not None else []
    if not known and traced_with is not None:
        known = [[(2, *shape) for shape in traced_with]]
    with _same_random_numbers(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model's own, told when the caller runs it
        original = copy_model(model).eval()
        for shapes in known or ([shape] for shape in possible_shapes(original)):
            random = torch.Generator().manual_seed(0)
            noise = [torch.randn(shape, generator=random) for shape in shapes]
            noise = [like_weights(model, x) for x in noise] if given is None else noise
            noise = noise if given is None else [x.to(y) for x, y in zip(noise, given, strict=True)]
            try:
                expected = _numbers(original, noise)
                again = expected if given is not None else _numbers(original, noise)
            except FAILURES:
                continue
            if _are_finite(expected) and _are_finite(again):
                if not _are_close(expected, again):
                    raise _offence("gives other numbers in a second call", _REMEDY)
                _compare(expected, gm, noise)
            return
    what = (
        f"its numbers cannot be checked: it runs on no square image of up to {LARGEST_SIZE} pixels"
    )
    raise _offence(what, "give example_inputs=images of the size that it is made for")


def _numbers(network, noise: list[torch.Tensor]) -> list[torch.Tensor]:
    """What a network gives; answers and indices as numbers. Nothing reads what is not given."""
    unread = [None] * (len(input_names(network)) - len(noise))
    given = tensors_of(network(*(x.clone() for x in noise), *unread))
    return [x if x.is_floating_point() else x.double() for x in given]


def _are_finite(values: list[torch.Tensor]) -> bool:
    return all(bool(value.isfinite().all()) for value in values)


def _are_close(expected: list[torch.Tensor], again: list[torch.Tensor]) -> bool:
    pairs = zip(expected, again, strict=True)
    return all(torch.allclose(x, y, rtol=1e-3, atol=1e-4) for x, y in pairs)


def _compare(expected: list[torch.Tensor], gm: fx.GraphModule, noise: list[torch.Tensor]) -> None:
    try:
        found = _numbers(gm.eval().forward, noise)  # __call__ would print a failure
    except FAILURES as error:
        shapes = " and ".join(str(tuple(x.shape)) for x in noise)
        what = f"the traced graph fails on images of shape {shapes} ({error})"
        raise _offence(what, "give example_inputs=images") from error
    count = len(output_nodes(gm))
    if not len(found) == len(expected) == count:
        what = f"{len(found)} of the {count} values that it returns are tensors"
        raise _offence(what, "return tensors only")
    for got, wanted in zip(found, expected, strict=True):
        if got.shape != wanted.shape:
            what = f"tracing changed the shape of its output: {tuple(got.shape)}"
            raise _offence(f"{what}, not {tuple(wanted.shape)}", _REMEDY)
        size = float(wanted.abs().max() + 1e-9) if wanted.numel() else 1.0
        if not torch.allclose(got, wanted, rtol=1e-3, atol=1e-4 * size):
            worst = float((got - wanted).abs().max())
            raise _offence(f"tracing changed its numbers (by up to {worst:.3g})", _REMEDY)


def _offence(what: str, remedy: str) -> UnconvertibleError:
    return UnconvertibleError([Offence("(the whole model)", what, None, remedy)])


@contextlib.contextmanager
def _same_random_numbers(model: nn.Module):
    """What a model that is random in eval mode draws inside is drawn again outside."""
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.is_cuda})
    with torch.random.fork_rng(devices=devices):
        yield
