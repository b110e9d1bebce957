"""Memory accesses as a part of energy, after Lemaire et al. (ICONIP 2022, arXiv 2210.13107).

Address arithmetic, which the authors count too, is left out.
"""

import dataclasses

from ..counting import Operation, Totals

_QUEUE_WORDS = 0  # spikes pass through a queue, the smallest memory


@dataclasses.dataclass(frozen=True)
class MemoryModel:
    """What reading or writing a word of on-chip memory costs, by the size of the memory.

    Attributes:
        points: (bytes, picojoules an access); linear in between and beyond, constant below.
        word_bytes: bytes of a weight, a membrane potential or an activation.
        addition_picojoules: each of the additions of a neuron update and of a bias.
    """

    points: tuple[tuple[float, float], ...]
    word_bytes: int = 4
    addition_picojoules: float = 0.0

    def access_picojoules(self, words: float) -> float:
        """One access to a memory of so many words."""
        size = words * self.word_bytes
        if size <= self.points[0][0]:
            return self.points[0][1]
        for (x0, y0), (x1, y1) in zip(self.points, self.points[1:], strict=False):
            if size <= x1 or (x1, y1) == self.points[-1]:
                return y0 + (y1 - y0) * (size - x0) / (x1 - x0)
        return self.points[0][1]

    def picojoules(self, totals: Totals) -> float:
        """Accesses, bias and neuron additions per image.

        Spike-driven layers: each arriving spike is read once; each accumulation reads its weight
        and reads and writes a membrane potential. Neurons: the potential is read and written at
        every step whatever the sparsity; each spike sent is written and is an addition (reset).
        Dense layers: see `_dense`.
        """
        queue = self.access_picojoules(_QUEUE_WORDS)
        total = totals.other.get("bias", 0) * self.addition_picojoules
        for op in totals.operations:
            if op.macs:
                total += self._dense(op, op.macs, op.calls)
            else:
                update = self._weight(op) + 2 * self.access_picojoules(op.outputs)
                total += op.events * queue + op.acs * update
        for site in totals.sites.values():
            total += 2 * site.updates * self.access_picojoules(site.neurons)
            total += site.spikes * queue
            total += (site.updates + site.spikes) * self.addition_picojoules
        return total

    def twin_picojoules(self, totals: Totals) -> float:
        """Accesses and bias additions of the quantised twin, run once."""
        return sum(
            self._dense(op, op.twin, 1) + op.outputs * self.addition_picojoules
            for op in totals.operations
        )

    def _weight(self, op: Operation) -> float:
        return self.access_picojoules(op.weights or op.inputs)

    def _dense(self, op: Operation, operations: float, calls: float) -> float:
        """Each operation reads a weight; a convolution and a product read an input for each, too,
        a fully connected layer reads each input once; each output is written."""
        reads = min(operations, op.inputs * calls) if op.kind == "linear" else operations
        return (
            operations * self._weight(op)
            + reads * self.access_picojoules(op.inputs)
            + op.outputs * calls * self.access_picojoules(op.outputs)
        )
