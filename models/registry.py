"""Model names, and the one way to build a model from its name."""

import inspect
from collections.abc import Callable

from torch import nn

from ..support.messages import near_names

_BUILDERS: dict[str, tuple[Callable[..., nn.Module], dict]] = {}


def register(builder: Callable[..., nn.Module], **variants: dict) -> None:
    """Add names to the registry: each keyword is a name, its value the builder's arguments.

    >>> register(SwinBN, swin_bn={}, swin_t_bn=dict(depths=(2, 2, 6, 2)))
    """
    for name, arguments in variants.items():
        assert name not in _BUILDERS, name
        _BUILDERS[name] = (builder, arguments)


def list_models() -> list[str]:
    """All names that `create_model` knows, sorted."""
    return sorted(_BUILDERS)


def is_direct(name: str) -> bool:
    """Whether this name is a spiking network that is trained as it is, without a conversion."""
    if name not in _BUILDERS:
        raise ValueError(f"unknown model {name!r}; {near_names(name, list_models())}")
    return hasattr(_BUILDERS[name][0], "step_logits")


def create_model(
    name: str,
    num_classes: int = 10,
    img_size: int | None = None,
    in_chans: int | None = None,
    **overrides,
) -> nn.Module:
    """Build a model of the zoo.

    Args:
        name: a name from `list_models()`.
        num_classes: outputs of the head.
        img_size: side of the square image in pixels (default: the model's own).
        in_chans: image channels (default: the model's own).
        overrides: the model's constructor arguments (contract, section 4).

    Raises:
        ValueError: unknown name or override, or a combination that cannot be built.
    """
    if name not in _BUILDERS:
        raise ValueError(f"unknown model {name!r}; {near_names(name, list_models())}")
    builder, arguments = _BUILDERS[name]
    given = {"img_size": img_size, "in_chans": in_chans}
    given = {key: value for key, value in given.items() if value is not None}
    try:
        model = builder(**{**arguments, **given, **overrides}, num_classes=num_classes)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise ValueError(
            f"model {name!r} takes no such override: {error}; "
            f"it takes {', '.join(inspect.signature(builder).parameters)}"
        ) from error
    model.model_name = name
    return model
