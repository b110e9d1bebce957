"""What can be chosen by name, one registry each; functions, recipes and flags accept what is there.

The names stand here so that `--help` needs no PyTorch; the module that owns a choice puts in what
the name stands for. One of a user's own is one entry more: `NEURONS["mine"] = Mine`.
"""


class Choices(dict):
    """{name: what it stands for}

    Args:
        what: a name is of, for messages.
        names: of those that come with the package, in order; bare until their owner is imported.
    """

    def __init__(self, what: str, *names: str):
        super().__init__(dict.fromkeys(names))
        self.what = what

    def check(self, name) -> str:
        """The name, or ValueError for one that is unknown."""
        if not isinstance(name, str) or name not in self:
            raise ValueError(f"{self.what} {name!r} is unknown; known: {', '.join(self)}")
        return name


NEURONS = Choices("neuron", "if", "stbif", "multi")
ATTENTIONS = Choices("attention", "accumulated", "per-step")
READOUTS = Choices("readout", "mean", "second-half")
SITES = Choices("sites", "auto", "relu", "all")
PRODUCTS = Choices("products", "increments", "dense")
SCALINGS = Choices("mask scaling", "none", "inverse")
CALIBRATIONS = Choices("calibrate", "thresholds", "bias", "bias-everywhere", "bias-alone")
METHODS = Choices("method", "max", "headroom", "percentile", "mse")
ENERGY_MODELS = Choices("energy model", "45nm-fp32", "45nm-fp16", "45nm-int8", "lemaire")
TASKS = Choices("task", "classify", "dense", "regression", "counts")
TARGETS = Choices("target", "nir", "sinabs", "snntorch", "spikingjelly", "norse")
FORMATS = Choices("figure format", "png", "pdf", "svg")
