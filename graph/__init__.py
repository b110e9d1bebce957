"""Tracing, normal form, time domains and surgery of fx graphs."""

from .capture import trace
from .domains import VARYING, Domain
from .errors import Offence, UnconvertibleError
from .normal_form import normal_form
from .prepared import Prepared, prepare

__all__ = [
    "VARYING",
    "Domain",
    "Offence",
    "Prepared",
    "UnconvertibleError",
    "normal_form",
    "prepare",
    "trace",
]
