"""What one unit of a network does in a step: activations, spiking neurons, masks, timed operators."""

from .clock import Clock, Timed
from .mask import SeededMask, SpikeMask
from .qcfs import MOST_LEVELS, QCFS, ClippedReLU, broadcast_threshold, quantise
from .spiking import IF, NEURONS, STBIF, Multi, SpikingNeuron
from .timed import Accumulate, ChannelAffine, Offset, Present

__all__ = [
    "IF",
    "MOST_LEVELS",
    "NEURONS",
    "QCFS",
    "STBIF",
    "Accumulate",
    "ChannelAffine",
    "ClippedReLU",
    "Clock",
    "Multi",
    "Offset",
    "Present",
    "SeededMask",
    "SpikeMask",
    "SpikingNeuron",
    "Timed",
    "broadcast_threshold",
    "quantise",
]
