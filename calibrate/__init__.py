"""What data tell about a network, as plain {site: value}."""

from .batches import Batches
from .clipped_statistics import clipped_statistics, fitted_thresholds
from .step_bias import step_bias
from .swaps import SWAPS, swap_gelu, swap_norm
from .thresholds import activation_thresholds

__all__ = [
    "activation_thresholds",
    "Batches",
    "clipped_statistics",
    "fitted_thresholds",
    "step_bias",
    "SWAPS",
    "swap_gelu",
    "swap_norm",
]
