"""The spiking network that runs: time loop, readout, recording, saved files."""

from .network import SpikingNetwork
from .readout import READOUTS, Readout, check_readout
from .recorder import Recording
from .saved import load

__all__ = ["READOUTS", "Readout", "Recording", "SpikingNetwork", "check_readout", "load"]
