"""Energy models as data: what an operation costs, by which source.

A model of your own is five lines:

>>> mine = EnergyModel(name="my-chip", mac_picojoules=0.5, ac_picojoules=0.1,
...                    source="measured on board 7")
>>> evaluate(snn, loader, timesteps=32, energy=mine)
"""

import dataclasses
import math

from ..counting import Totals
from ..support.choices import ENERGY_MODELS
from ..support.messages import near_names
from .memory import MemoryModel

PICOJOULES_IN_MILLIJOULE = 1e9

_HOROWITZ = (
    'M. Horowitz, "Computing\'s energy problem (and what we can do about it)", ISSCC '
    "2014, 45 nm, 0.9 V"
)
_LEMAIRE = (
    'E. Lemaire et al., "An analytical estimation of spiking neural networks energy '
    'efficiency", ICONIP 2022, arXiv 2210.13107; operations and SRAM accesses at 45 nm '
    "after Horowitz, ISSCC 2014 (32-bit integers)"
)


@dataclasses.dataclass(frozen=True)
class EnergyModel:
    """Energy of one multiply-accumulate and of one accumulation, and where the numbers come from.

    Attributes:
        name: what tables call it.
        mac_picojoules, ac_picojoules: energy of an operation.
        source: a citation.
        memory: if given, accesses to memory are paid for, too.
    """

    name: str
    mac_picojoules: float
    ac_picojoules: float
    source: str
    memory: MemoryModel | None = None

    def __post_init__(self):
        for field in ("mac_picojoules", "ac_picojoules"):
            value = getattr(self, field)
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value >= 0):
                raise ValueError(
                    f"energy model {self.name!r}: {field}={value!r} must be a finite "
                    "number of at least 0, in picojoules"
                )

    def operations_millijoules(self, macs: float, acs: float) -> float:
        """Energy of arithmetic alone."""
        picojoules = self.mac_picojoules * macs + self.ac_picojoules * acs
        return picojoules / PICOJOULES_IN_MILLIJOULE

    def activation_picojoules(self, bits: int) -> float:
        """One nonzero activation of so many bits at one synapse: a MAC, or bit-serial additions."""
        return min(self.mac_picojoules, bits * self.ac_picojoules)

    def millijoules(self, totals: Totals) -> float:
        """Energy per image."""
        energy = self.operations_millijoules(totals.macs, totals.acs)
        if self.memory is not None:
            energy += self.memory.picojoules(totals) / PICOJOULES_IN_MILLIJOULE
        return energy

    def quantised_millijoules(self, totals: Totals, bits: int) -> float | None:
        """Energy of the quantised twin that is run once; None if its activations are not known.

        Args:
            totals: counts with `image_macs` and `twin_operations`.
            bits: of an activation.
        """
        if totals.twin_operations is None:
            return None
        picojoules = (
            self.mac_picojoules * totals.image_macs
            + self.activation_picojoules(bits) * totals.twin_operations
        )
        if self.memory is not None:
            picojoules += self.memory.twin_picojoules(totals)
        return picojoules / PICOJOULES_IN_MILLIJOULE


ENERGY_MODELS.update(
    (model.name, model)
    for model in (
        EnergyModel(
            "45nm-fp32", 4.6, 0.9, f"{_HOROWITZ}: 32-bit float multiply 3.7 pJ, add 0.9 pJ"
        ),
        EnergyModel(
            "45nm-fp16", 1.5, 0.4, f"{_HOROWITZ}: 16-bit float multiply 1.1 pJ, add 0.4 pJ"
        ),
        EnergyModel(
            "45nm-int8", 0.23, 0.03, f"{_HOROWITZ}: 8-bit integer multiply 0.2 pJ, add 0.03 pJ"
        ),
        EnergyModel(
            "lemaire",
            3.2,
            0.1,
            _LEMAIRE,
            MemoryModel(
                ((8 * 1024, 10.0), (32 * 1024, 20.0), (1024 * 1024, 100.0)), addition_picojoules=0.1
            ),
        ),
    )
)


def energy_model(model: str | EnergyModel) -> EnergyModel:
    """A model by name, or the model that was given."""
    if isinstance(model, EnergyModel):
        return model
    if model not in ENERGY_MODELS:
        raise ValueError(
            f"unknown energy model {model!r}; {near_names(model, ENERGY_MODELS)} A model of your own: "
            "EnergyModel(name, mac_picojoules, ac_picojoules, source)"
        )
    return ENERGY_MODELS[model]
