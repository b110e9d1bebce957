"""What each operation costs: pure functions from shapes and spikes to counts."""

from .alphabet import Alphabet, inspect
from .aten import OTHER
from .contractions import CONTRACTIONS, Contraction, matrix_product
from .counter import OperationCounter
from .fanout import axis_fanout, conv_fanout
from .ledger import Ledger, Row, Side, Site
from .nodes import NodeCounter
from .nonzero import count_nonzero, count_per_position
from .report import Report, report_of
from .settle import Operation, Totals, settle

__all__ = [
    "CONTRACTIONS",
    "OTHER",
    "Alphabet",
    "Contraction",
    "Ledger",
    "NodeCounter",
    "Operation",
    "OperationCounter",
    "Report",
    "Row",
    "Side",
    "Site",
    "Totals",
    "axis_fanout",
    "conv_fanout",
    "count_nonzero",
    "count_per_position",
    "inspect",
    "matrix_product",
    "report_of",
    "settle",
]
