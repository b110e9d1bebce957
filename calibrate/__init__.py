"""What data tell about a network, as plain {site: value}."""

from .thresholds import activation_thresholds

__all__ = ["activation_thresholds"]
