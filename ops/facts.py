"""What is known of an operation: the columns of the table."""

import dataclasses
import enum
from collections.abc import Callable

from torch import Tensor

from .batch import same
from .call import Rule


class Kind(enum.Enum):
    """What an operation is to a spiking network.

    LINEAR     f(a x + b y) = a f(x) + b f(y) in its `values` together, up to an offset that it names
    ADDITIVE   sum or difference: linear in both; with a constant operand it is an offset
    PRODUCT    linear in each of its `values` while the others stay; a product of streams otherwise
    NONLINEAR  must see running values (softmax, max-pool, layer norm, comparisons)
    ACTIVATION becomes a QCFS site: ReLU and its clipped forms
    SMOOTH     another activation: analog beside QCFS sites, refused where it should have spiked
    SITE, MASK our own QCFS, neurons and spike masks
    TIMED      our own converters between time domains
    NORM       batch norm: an affine current in eval mode
    CREATE     makes a tensor of sizes and numbers, whatever the values of its operands
    FUSED      a product and a sum in one; it is written as both
    SIZE       shapes, types and arithmetic on Python numbers
    REFUSED    cannot be converted; the remedy stands beside it
    """

    LINEAR = "linear"
    ADDITIVE = "additive"
    PRODUCT = "product"
    NONLINEAR = "nonlinear"
    ACTIVATION = "activation"
    SMOOTH = "smooth"
    SITE = "site"
    MASK = "mask"
    TIMED = "timed"
    NORM = "norm"
    CREATE = "create"
    FUSED = "fused"
    SIZE = "size"
    REFUSED = "refused"


class View(enum.Enum):
    """Whether the result lies in the memory of the first operand."""

    NEVER = "never"
    PERHAPS = "perhaps"
    ALWAYS = "always"


class Spikes(enum.Enum):
    """What the result is where all values are spikes {0, s} or {-s, 0, s}.

    SAME    the same nonzero elements in another order, zeros added at most
    PART    spikes, but not all of them, or some of them several times
    SCALED  spikes, where the other operand is one number or one per channel
    BINARY  0 and 1, whatever the operands are
    UNSURE  the values decide
    WHOLE   whole numbers, whatever the operands are: the values decide
    ANALOG  averages, sums of weighted spikes
    NOTHING made of no values at all
    """

    SAME = "same"
    PART = "part"
    SCALED = "scaled"
    BINARY = "binary"
    UNSURE = "unsure"
    WHOLE = "whole"
    ANALOG = "analog"
    NOTHING = "nothing"


class Sign(enum.Enum):
    """Whether values of the result can be negative.

    ANY       they can
    KEPT      not where no value of the operands is
    POSITIVE  never
    """

    ANY = "any"
    KEPT = "kept"
    POSITIVE = "positive"


class Channels(enum.Enum):
    """Where the channels of the result lie."""

    KEPT = "kept"  # on the axis on which they were
    FIRST = "first"  # axis 1, [B, C, ...]
    LAST = "last"  # the last axis, [..., C]
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True)
class Cost:
    """Elementary operations of a call that has no synapses, by kind.

    Attributes:
        kind: as `other_operations` of a record names it.
        size: (arguments, result) -> how many.
    """

    kind: str
    size: Callable[[tuple, Tensor], int]


@dataclasses.dataclass(frozen=True)
class Operation:
    """One row of the table.

    Attributes:
        name: the canonical one of all its spellings.
        spellings: names of functions and methods beside it (an in-place form is `name_`).
        augmented: Python's in-place operator (`iadd`), and the function of the same value.
        values: positions of the operands in which it is linear (a list counts as one).
        alpha: the operand that `alpha=` multiplies.
        product: FUSED: what is multiplied before the first operand is added.
        batch: where the batch axis goes, or that it mixes images.
        cost: None: nothing, or synapses.
        several: it gives several tensors (`max` where it is given an axis).
        inactive: it gives its operand back in eval mode.
        in_order: the elements of the result are those of the operand, in the same order.
        writes: position and keyword of a number that it writes into the result (padding).
        takes: position of the axis of which it takes one entry or some (`select`, `narrow`).
        synapses: it multiplies with weights, or two tensors with each other.
        aten: names beside `name` and `spellings` under which PyTorch dispatches it.
        remedy: what to do where it is refused.
    """

    name: str
    kind: Kind
    spellings: tuple[str, ...] = ()
    augmented: tuple[str, Callable] | None = None
    view: View = View.NEVER
    spikes: Spikes = Spikes.ANALOG
    sign: Sign = Sign.ANY
    values: tuple[int, ...] = (0,)
    alpha: int | None = None
    product: Callable | None = None
    batch: Rule = same
    channels: Channels = Channels.UNKNOWN
    cost: Cost | None = None
    several: bool = False
    inactive: bool = False
    in_order: bool = False
    writes: tuple[int, str] | None = None
    takes: int | None = None
    synapses: bool = False
    aten: tuple[str, ...] = ()
    remedy: str = ""

    @property
    def keeps_spikes(self) -> bool:
        """Whether spikes come out as spikes of the same height."""
        return self.spikes in (Spikes.SAME, Spikes.PART)
