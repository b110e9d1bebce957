"""ANN graph in, spiking network out."""

from ..graph import UnconvertibleError
from .api import clipped, convert_model, insert_qcfs
from .layer_error import convergence_sentence, layer_errors, logit_errors, reference_name
from .reference import reference_network

__all__ = [
    "UnconvertibleError",
    "clipped",
    "convergence_sentence",
    "convert_model",
    "insert_qcfs",
    "layer_errors",
    "logit_errors",
    "reference_name",
    "reference_network",
]
