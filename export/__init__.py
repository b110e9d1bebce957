"""Spiking networks for other simulators and chips, each with a grade that was measured there."""

from .api import export
from .lowering import UnexportableError
from .targets import TARGETS, Target

__all__ = ["TARGETS", "Target", "UnexportableError", "export"]
