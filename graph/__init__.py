"""Tracing, normal form, time domains and surgery of fx graphs."""

from .domains import VARYING, Domain
from .errors import Offence, UnconvertibleError
from .normal_form import normal_form
from .operations import Kind, classify
from .tracer import trace

__all__ = [
    "VARYING",
    "Domain",
    "Kind",
    "Offence",
    "UnconvertibleError",
    "classify",
    "normal_form",
    "trace",
]
