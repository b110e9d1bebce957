"""A neuron, a readout and an energy model of a user's own: a class or a row each."""

from spikeswap.evaluate import ENERGY_MODELS, EnergyModel
from spikeswap.neurons import IF, NEURONS, READOUTS, Window


class LateIF(IF):
    """IF that starts empty instead of half full."""

    kind = "late-if"
    starts_at = 0.0


NEURONS["late-if"] = LateIF
READOUTS["last-quarter"] = Window("mean of the last quarter of the steps", lambda t: 3 * t // 4)
ENERGY_MODELS["toy"] = EnergyModel("toy", mac_picojoules=2.0, ac_picojoules=1.0, source="made up")
