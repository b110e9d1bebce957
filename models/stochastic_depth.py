"""Stochastic depth of residual branches."""

from torch import nn


def stochastic_depth(rate: float) -> nn.Module:
    """timm's DropPath, or nothing for rate 0: then timm, which takes seconds, is not imported."""
    if not rate:
        return nn.Identity()
    from timm.layers import DropPath

    return DropPath(rate)
