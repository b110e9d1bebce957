"""The spiking network that runs: time loop, readout, recording, saved files."""

from .info import ConversionInfo
from .network import SpikingNetwork
from .readout import Readout
from .recorder import Recording
from .saved import load

__all__ = ["ConversionInfo", "Readout", "Recording", "SpikingNetwork", "load"]
