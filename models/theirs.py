"""Networks of other libraries by name: timm's, torchvision's, and what a function of yours makes."""

import dataclasses
import importlib
import os
import sys

import torch
from torch import nn

from ..support.messages import near_names, reason
from ..support.state_dicts import read_state_dict

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SOURCES = ("timm", "torchvision", "function")
OPTIONS = (  # what a recipe may say to timm: numbers, so nothing is fetched or read
    "img_size in_chans patch_size window_size embed_dim dims depth depths num_heads mlp_ratio drop_rate "
    "drop_path_rate"
).split()


@dataclasses.dataclass(frozen=True)
class Theirs:
    """A network that another library or a function makes.

    Attributes:
        source: of `SOURCES`.
        name: of the architecture, or PACKAGE.MODULE:FUNCTION.
        num_classes: of its head; None: as the library makes it.
        options: further sizes for timm, of `OPTIONS`.
    """

    source: str
    name: str
    num_classes: int | None = None
    options: dict = dataclasses.field(default_factory=dict)

    def make(self, pretrained: bool = False) -> nn.Module:
        """The network in eval mode, with the library's own weights or none.

        Raises:
            ValueError: unknown name, a function that gives no network, weights that cannot be had.
        """
        try:
            model = getattr(self, f"_{self.source}")(pretrained)
        except (OSError, RuntimeError) as error:  # no connection, no such file on the hub
            raise ValueError(
                f"the weights of {self.name} could not be had from {self.source} ({reason(error)}); "
                "give them with --weights FILE"
            ) from error
        if not isinstance(model, nn.Module):
            raise ValueError(f"{self.name} gives a {type(model).__name__}, no nn.Module")
        return model.eval()

    def _timm(self, pretrained: bool) -> nn.Module:
        import timm

        if not timm.is_model(self.name):  # before a name such as hf-hub:... is fetched
            hint = near_names(self.name, timm.list_models())
            raise ValueError(f"timm has no model {self.name!r}; {hint}")
        more = {} if self.num_classes is None else {"num_classes": self.num_classes}
        try:
            return timm.create_model(self.name, pretrained=pretrained, **more, **self._checked())
        except TypeError as error:
            if "unexpected keyword" not in str(error):
                raise
            raise ValueError(f"timm's {self.name} takes no such override: {error}") from error

    def _checked(self) -> dict:
        for key, value in self.options.items():
            numbers = value if isinstance(value, (list, tuple)) else [value]
            if key not in OPTIONS or not all(type(x) in (int, float) for x in numbers):
                raise ValueError(
                    f"override {key} = {value!r} is none for a network of timm; give numbers for "
                    f"{', '.join(OPTIONS)}"
                )
        return self.options

    def _torchvision(self, pretrained: bool) -> nn.Module:
        from torchvision.models import get_model, list_models

        if self.name not in list_models():
            hint = near_names(self.name, list_models())
            raise ValueError(f"torchvision has no model {self.name!r}; {hint}")
        if self.options:
            raise ValueError(f"torchvision's networks take no {', '.join(self.options)}")
        more = {} if self.num_classes is None else {"num_classes": self.num_classes}
        return get_model(self.name, weights="DEFAULT" if pretrained else None, **more)

    def _function(self, pretrained: bool) -> nn.Module:
        home, _, function = self.name.partition(":")
        if not home or not function:
            raise ValueError(
                f"--model {self.name!r} must be PACKAGE.MODULE:FUNCTION, e.g. mynets.resnet:small"
            )
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            found = getattr(importlib.import_module(home), function)
        except (ImportError, AttributeError) as error:
            raise ValueError(
                f"--model {self.name}: {error}; start in the folder that holds the package, or "
                "install it"
            ) from error
        return found()


def load_theirs(theirs: Theirs, weights=None, prefix: str = "") -> nn.Module:
    """A network with weights out of a file, or with the library's own.

    Args:
        weights: a PyTorch checkpoint, bare or wrapped, or safetensors; None: the library's own
            pretrained weights (what a function makes is taken as it is).
        prefix: of the names in the file that is taken off, such as "backbone."; names without it
            are left out then.

    Raises:
        ValueError: a file that is none, or weights that do not fit: names the first of them.
    """
    if weights is None:
        return theirs.make(pretrained=theirs.source != "function")
    model = theirs.make()
    own = model.state_dict()
    state = read_state_dict(weights, known=own)
    if prefix:
        state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    missing = [
        name for name in own if name not in state and not name.endswith("num_batches_tracked")
    ]
    unknown = [name for name in state if name not in own]
    sizes = [n for n in own if n in state and own[n].shape != state[n].shape]
    if missing or unknown or sizes:
        told = [
            f"{words} {', '.join(found[:3])}{' ...' if len(found) > 3 else ''}"
            for words, found in (("it lacks", missing), ("it has besides", unknown))
            if found
        ]
        told += [f"{n} is {tuple(state[n].shape)}, not {tuple(own[n].shape)}" for n in sizes[:2]]
        raise ValueError(
            f"the weights in {weights} do not fit {theirs.name}: {'; '.join(told)}; give weights of "
            "this network (of another number of classes: --classes N; under a prefix: "
            "--weights-prefix)"
        )
    model.load_state_dict({n: state.get(n, own[n]) for n in own})
    return model


def input_of(theirs: Theirs, model: nn.Module) -> dict:
    """{"img_size", "in_chans", "mean", "std"} that a network was made for, as its library says."""
    size, mean, std = (3, 224, 224), *IMAGENET
    if theirs.source == "timm":
        config = model.pretrained_cfg
        size, mean, std = config["input_size"], config["mean"], config["std"]
    elif theirs.source == "torchvision":
        from torchvision.models import get_model_weights

        transform = get_model_weights(theirs.name).DEFAULT.transforms()
        side = getattr(transform, "crop_size", getattr(transform, "resize_size", [224]))
        size, mean, std = (3, side[0], side[0]), transform.mean, transform.std
    return {"img_size": size[-1], "in_chans": size[0], "mean": list(mean), "std": list(std)}


@torch.no_grad()
def classes_of(model: nn.Module, build: dict) -> int | None:
    """How many classes a network tells apart; None if its output is no [B, classes].

    Raises:
        ValueError: it does not take images of this size.
    """
    side = build["img_size"]
    weight = next(model.parameters())
    try:
        output = model(torch.zeros(1, build["in_chans"], side, side).to(weight))
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        raise ValueError(
            f"{build['model']} does not take images of {build['in_chans']} x {side} x {side} "
            f"({reason(error)}); give their side with --img-size"
        ) from error
    logits = isinstance(output, torch.Tensor) and output.dim() == 2
    return output.shape[1] if logits else None
