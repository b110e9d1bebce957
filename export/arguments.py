"""What modules and calls say of weights, thresholds and windows, in the form that lowering reads."""

from torch import Tensor, fx, nn

from ..neurons import IF
from ..ops.as_modules import argument
from .values import per_channel


def times_inputs(weight: Tensor, factor: Tensor, module: nn.Module) -> Tensor:
    """A weight whose inputs [C] come times a factor."""
    groups = getattr(module, "groups", 1)
    shape = [1] * (weight.dim() - 2)
    each = factor.view(groups, 1, weight.shape[1], *shape)
    return (weight.view(groups, -1, *weight.shape[1:]) * each).view_as(weight)


def channels(module: IF, shape: tuple[int, ...]) -> Tensor | None:
    """Thresholds of a site per channel [C], or [] for one."""
    height = module.threshold.detach().cpu().double()
    if height.numel() == 1:
        return height.reshape(())
    if height.dim() == 1:
        along = module.axis if module.axis >= 0 else module.axis + len(shape) + 1
        return height if along == 1 else None
    return per_channel(height, shape)


def same(module: nn.Conv2d) -> tuple[int, int] | None:
    spans = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    return None if any(span % 2 for span in spans) else tuple(span // 2 for span in spans)


def pair(value) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def dims(value) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value or ())


def pool_module(node: fx.Node) -> nn.AvgPool2d:
    """The module of a call of F.avg_pool2d."""
    words = (
        "kernel_size",
        "stride",
        "padding",
        "ceil_mode",
        "count_include_pad",
        "divisor_override",
    )
    defaults = (None, None, 0, False, True, None)
    found = (
        argument(node, i, w, d) for i, (w, d) in enumerate(zip(words, defaults, strict=True), 1)
    )
    return nn.AvgPool2d(*found)
