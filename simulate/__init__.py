"""The time loop: chunks, readouts and recordings."""

from .executor import Executor
from .readout import READOUTS, Readout, check_readout
from .recorder import Recording

__all__ = ["READOUTS", "Executor", "Readout", "Recording", "check_readout"]
