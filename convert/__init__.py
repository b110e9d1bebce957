"""ANN graph in, spiking network out."""

from ..graph import UnconvertibleError
from .api import clipped, convert_model, insert_qcfs
from .network import SpikingNetwork
from .saved import load

__all__ = ["SpikingNetwork", "UnconvertibleError", "clipped", "convert_model", "insert_qcfs", "load"]
