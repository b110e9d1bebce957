"""The time domains that a value of a spiking network can be known in."""

import enum


class Domain(enum.Enum):
    """How a node's value depends on image and time.

    PARAMETER  on neither
    CONSTANT   on the image alone: computed once for each batch, [B, ...]
    SIZE       a Python number or a shape
    STREAM     what happens in each step, [K * B, ...]: spikes and weighted sums of spikes
    RUNNING    the value after each step, [K * B, ...]: the mean of the stream so far (rate coding)
               or its sum (cumulative coding); dense
    """

    PARAMETER = "parameter"
    CONSTANT = "constant"
    SIZE = "size"
    STREAM = "stream"
    RUNNING = "running"


VARYING = (Domain.STREAM, Domain.RUNNING)
