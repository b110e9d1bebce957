"""Tracing, normal form, time domains and surgery of fx graphs."""

from .capture import trace
from .domains import VARYING, Domain
from .errors import Offence, UnconvertibleError
from .normal_form import normal_form
from .operations import Kind, classify

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
