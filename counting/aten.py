"""The table of operations under the names that PyTorch dispatches, by what counting asks of it.

Moving data costs nothing here; what the table does not know is reported as uncounted.
"""

from ..ops import ATEN, Operation, Spikes


def _names(*spikes: Spikes) -> frozenset[str]:
    return frozenset(name for name, row in ATEN.items() if row.spikes in spikes)


SAME = _names(Spikes.SAME)  # the same nonzero elements in another order, zeros added at most
PART = _names(Spikes.PART)  # spikes stay spikes, but not all of them, or some of them twice
COMPARE = _names(Spikes.BINARY)
ROUND = _names(Spikes.WHOLE)
PRODUCT = _names(Spikes.SCALED)
SUM = _names(Spikes.UNSURE)
CONSTANT = _names(Spikes.NOTHING)  # made of nothing
OTHER: dict[str, Operation] = {name: row for name, row in ATEN.items() if row.cost is not None}
ACTIVATIONS = frozenset(name for name, row in OTHER.items() if row.cost.kind == "activation")
FREE = frozenset(name for name, row in ATEN.items() if row.cost is None and not row.synapses)
TAKES = {name: row.takes for name, row in ATEN.items() if row.takes is not None}
IN_ORDER = frozenset(name for name, row in ATEN.items() if row.in_order)
