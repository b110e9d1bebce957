"""What one unit of a network does in a step: activations, spiking neurons, masks, timed operators."""

from .clock import Clock, Timed
from .coding import CODINGS, CUMULATIVE, RATE, READOUTS, Coding, Window
from .increments import IncrementalProduct
from .mask import SeededMask, SpikeMask
from .qcfs import MOST_LEVELS, QCFS, ClippedReLU, PlannedSite, broadcast_threshold, quantise
from .spiking import IF, NEURONS, STBIF, Multi, SpikingNeuron
from .timed import Accumulate, ChannelAffine, Offset, Present

__all__ = [
    "CODINGS",
    "CUMULATIVE",
    "IF",
    "MOST_LEVELS",
    "NEURONS",
    "QCFS",
    "RATE",
    "READOUTS",
    "STBIF",
    "Accumulate",
    "ChannelAffine",
    "ClippedReLU",
    "Clock",
    "Coding",
    "IncrementalProduct",
    "Multi",
    "Offset",
    "PlannedSite",
    "Present",
    "SeededMask",
    "SpikeMask",
    "SpikingNeuron",
    "Timed",
    "Window",
    "broadcast_threshold",
    "quantise",
]
