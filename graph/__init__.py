"""Tracing, normal form, time domains and surgery of fx graphs."""

from .capture import trace
from .domains import VARYING, Domain
from .errors import Offence, UnconvertibleError
from .normal_form import normal_form

__all__ = [
    "VARYING",
    "Domain",
    "Offence",
    "UnconvertibleError",
    "normal_form",
    "trace",
]
