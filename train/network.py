"""The network of a run, rebuilt from the plain numbers in its checkpoint."""

import math

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..calibrate import SWAPS
from ..convert import insert_qcfs
from ..models import create_model, list_models
from ..models.theirs import SOURCES, Theirs
from ..neurons import MOST_LEVELS, QCFS
from ..support.messages import reason, shown

_LARGEST = 2**20  # of the whole numbers that describe a network
_CALLS = 100  # of torch that building a network may take for each of its tensors
_SMALL = 2**26  # bytes of constants that any network may have


def _whole(least: int, most: int):
    condition = f"a whole number from {least} to {most:,}"
    return (lambda value: type(value) is int and least <= value <= most), condition


_BUILD = {  # what each entry of `build` must be
    "model": (lambda v: v in list_models(), "the name of a model"),
    "num_classes": _whole(1, _LARGEST),
    "img_size": _whole(1, 8192),
    "in_chans": _whole(1, 1024),
    "overrides": (lambda v: type(v) is dict and _is_modest(v), "a dictionary of modest numbers"),
    "levels": (
        lambda v: v is None or _whole(1, MOST_LEVELS)[0](v),
        "None or a whole number from 1 on",
    ),
    "threshold": (lambda v: v is None or _is_number(v) and 0 <= v < math.inf, "a number from 0 on"),
    "mask": (lambda v: _is_number(v) and 0 <= v < 1, "at least 0 and below 1"),
    "mask_sites": (lambda v: type(v) is list and all(type(n) is str for n in v), "a list of names"),
    "swaps": (lambda v: type(v) is list and all(n in SWAPS for n in v), f"of {', '.join(SWAPS)}"),
    "sites": (lambda v: v in ("relu", "all"), "relu or all"),
}
_ABSENT = {"mask_sites": [], "swaps": [], "sites": "relu"}


def build_network(build: dict) -> nn.Module:
    """Build what `build` describes, with fresh weights.

    Args:
        build: model (name), num_classes, img_size, in_chans, overrides (constructor arguments), for a
            network of another library source, and for a network with QCFS activations swaps, levels,
            threshold, mask, mask_sites, sites; levels None leaves the model as it is (direct-trained
            and plain networks).

    Raises:
        ValueError: unknown name, or numbers that do not go together.
    """
    model = plain_network(build)
    for name in build.get("swaps", ()):
        model = SWAPS[name](model)
    return with_sites(model, build)


def plain_network(build: dict, pretrained: bool = False) -> nn.Module:
    """The network as its library has it: no swap, no QCFS site."""
    if "source" not in build:
        return _ours(build)
    if build["source"] not in ("timm", "torchvision"):
        raise ValueError(
            f"it is what the function {build['model']!r} makes, and no function is called because a "
            "file names it; evaluate its conversion alone"
        )
    return theirs_of(build).make(pretrained)


def with_sites(model: nn.Module, build: dict, thresholds: dict | None = None) -> nn.Module:
    """The network with the QCFS sites of `build`, if it has any."""
    if build.get("levels") is None:
        return model
    shape = build["in_chans"], build["img_size"], build["img_size"]
    noise = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    return insert_qcfs(
        model,
        levels=build["levels"],
        threshold=build["threshold"] or 1.0,
        mask=build["mask"],
        mask_sites=build.get("mask_sites") or None,
        sites=build.get("sites", "relu"),
        thresholds=thresholds,
        example_inputs=noise if "source" in build or build.get("sites") == "all" else None,
    )


def _ours(build: dict) -> nn.Module:
    return create_model(
        build["model"],
        num_classes=build["num_classes"],
        img_size=build["img_size"],
        in_chans=build["in_chans"],
        **build["overrides"],
    )


def theirs_of(build: dict) -> Theirs:
    """The network of another library that a build names."""
    options = dict(build["overrides"])
    if "mean" not in build and build["in_chans"] != 3:  # not as its library trained it
        options["in_chans"] = build["in_chans"]
    return Theirs(build["source"], build["model"], build["num_classes"], options)


def set_clip_share(model: nn.Module, share: float) -> None:
    """Let every QCFS site clip without quantising in this share of its training calls."""
    for site in model.modules():
        if isinstance(site, QCFS):
            site.clip_share = share


def check_build(build: dict, state: dict[str, Tensor]) -> None:
    """ValueError unless `build` describes a network that these weights fill.

    The network is built without storage, so that sizes in a file cost nothing before they are
    compared with its weights.
    """
    theirs = "source" in build
    for key, (holds, condition) in (_THEIRS if theirs else _BUILD).items():
        if not holds(build.get(key, _ABSENT.get(key))):
            raise ValueError(f"build.{key} is {shown(build.get(key))}, but must be {condition}")
    try:
        with (
            torch.set_grad_enabled(torch.is_grad_enabled()),  # the limit may fall inside no_grad
            _CallLimit(_CALLS * (len(state) + 10)),
            torch.device("meta"),
        ):
            if theirs and build["source"] == "function":
                return  # which is not called (see `_theirs`)
            empty = plain_network(build)
    except (TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise ValueError(f"its build makes no network ({reason(error)})") from error
    bytes_given = sum(tensor.nbytes for tensor in state.values())
    if sum(buffer.nbytes for buffer in empty.buffers()) > 4 * bytes_given + _SMALL:
        raise ValueError("its build makes a network of endless constants")
    for name, parameter in empty.named_parameters():
        if name not in state or state[name].shape != parameter.shape:
            given = tuple(state[name].shape) if name in state else "missing"
            raise ValueError(f"{name} is {given}, but its build needs {tuple(parameter.shape)}")


class _CallLimit(TorchFunctionMode):
    """Ends with a ValueError after `left` calls of torch functions."""

    def __init__(self, left: int):
        super().__init__()
        self.left = left

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.left -= 1
        if self.left < 0:
            raise ValueError(
                "its build makes a network of many more layers than it has weights for"
            )
        return function(*args, **(kwargs or {}))


_STATISTICS = (
    lambda v: v is None or type(v) is list and len(v) in (1, 3) and all(map(_is_number, v)),
    "None or 1 or 3 numbers",
)
_THEIRS = {  # the same of a network of another library
    **{key: check for key, check in _BUILD.items() if key not in ("model", "num_classes")},
    "source": (lambda v: v in SOURCES, f"one of {', '.join(SOURCES)}"),
    "model": (lambda v: type(v) is str and len(v) < 200, "a name"),
    "num_classes": (lambda v: v is None or _whole(1, _LARGEST)[0](v), "None or a whole number"),
    "mean": _STATISTICS,
    "std": _STATISTICS,
}


def _is_modest(value) -> bool:
    if isinstance(value, (dict, list, tuple)):
        inner = value.values() if isinstance(value, dict) else value
        return len(value) <= 1000 and all(map(_is_modest, inner))
    return not isinstance(value, int) or value <= _LARGEST


def _is_number(value) -> bool:
    return type(value) in (int, float)


def restore_network(checkpoint: dict) -> nn.Module:
    """The trained network of a checkpoint (its averaged weights, if it has them), in eval mode."""
    model = build_network(checkpoint["build"])
    state = checkpoint.get("model_ema") or checkpoint["model"]
    try:
        for name, site in model.named_modules():
            if isinstance(site, QCFS) and site.threshold.shape != state[f"{name}.threshold"].shape:
                site.set_threshold(state[f"{name}.threshold"])  # one a channel, from data
        model.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        raise ValueError(
            f"the weights do not fit the network of their build: {reason(error)}"
        ) from error
    return model.eval()
