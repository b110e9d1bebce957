"""How a spiking network was made: the columns of `info` in conversion.json, each with its type."""

import dataclasses
from collections.abc import Iterator, Mapping

from ..neurons import NEURONS
from ..neurons.mask import check_ratio
from ..support.choices import ATTENTIONS, PRODUCTS, SCALINGS
from .fields import fits

_LAYER = {"name", "ann", "error", "clipping", "quantisation", "unevenness"}


class _Columns(Mapping):
    """A dataclass of plain values that is checked when made and reads like a dictionary, too.

    Fields with a default are optional: the dictionary has them only if they are set.
    """

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not fits(value, field.type):
                kind = getattr(field.type, "__name__", field.type)
                raise ValueError(f"{field.name} is {value!r}, but must be of type {kind}")

    @classmethod
    def from_dict(cls, content):
        """Read what `as_dict` gave.

        Raises:
            ValueError: no dictionary, a missing or unknown key, or an impossible value.
        """
        if not isinstance(content, dict):
            raise ValueError(f"{content!r} is no dictionary of {', '.join(cls.columns())}")
        missing = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING]
        missing = [name for name in missing if name not in content]
        unknown = [name for name in content if name not in cls.columns()]
        if missing or unknown:
            what = f"{missing[0]!r} is missing" if missing else f"{unknown[0]!r} is unknown"
            raise ValueError(f"{what}; known: {', '.join(cls.columns())}")
        return cls(**content)

    @classmethod
    def columns(cls) -> list[str]:
        return [field.name for field in dataclasses.fields(cls)]

    def as_dict(self) -> dict:
        """Plain values, as JSON has them."""
        values = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None or field.default is dataclasses.MISSING:
                values[field.name] = value.as_dict() if isinstance(value, _Columns) else value
        return values

    def __getitem__(self, name: str):
        return self.as_dict()[name]

    def __setitem__(self, name: str, value) -> None:
        if name not in self.columns():
            raise KeyError(name)
        setattr(self, name, value)

    def __iter__(self) -> Iterator[str]:
        return iter(self.as_dict())

    def __len__(self) -> int:
        return len(self.as_dict())


@dataclasses.dataclass(eq=False)
class Fitted(_Columns):
    """What a calibration fitted.

    Attributes:
        method: as `calibrate` of `convert_model`.
        images: how many it saw.
        steps: T that the step-wise bias is for; None without one.
        bias_images: images that were simulated for the bias.
        bias_sites: names of the sites that have one.
        threshold_parameters, bias_parameters: how many values there are.
    """

    method: str
    images: int
    steps: int | None
    bias_images: int
    bias_sites: list[str]
    threshold_parameters: int
    bias_parameters: int


@dataclasses.dataclass(eq=False)
class Fidelity(_Columns):
    """How near the quantised network is to the user's own, and what was chosen for that.

    Attributes:
        method, levels: of the thresholds, L.
        images: how many the thresholds come from.
        compared: images that the two networks were compared on.
        held_back: the thresholds have not seen those.
        logit_error: norm of the difference of the logits over the norm of the own ones, each without
            its mean over the classes.
        agreement: per cent of `compared` with the same top class; None where there are no classes.
        tried: rows of method, levels, logit_error, agreement; empty where nothing was open.
        site_errors: rows of name and error (as `logit_error`, at a site).
        silent, channels: channels that never fired in the calibration, and all.
    """

    method: str
    levels: int
    images: int
    compared: int
    held_back: bool
    logit_error: float
    agreement: float | None
    tried: list[dict[str, float | str | None]]
    site_errors: list[dict[str, float | str]]
    silent: int
    channels: int

    @property
    def words(self) -> str:
        """One or more sentences."""
        where = f"{self.compared} {'held-back' if self.held_back else 'calibration'} images"
        text = (
            f"thresholds by {self.method!r} of {self.images} images, L = {self.levels}: the quantised "
            f"network's logits are {100 * self.logit_error:.2g} % off your own network's on {where}"
        )
        if self.agreement is not None:
            text += f", their top class is the same on {self.agreement:.4g} %"
        if self.tried:
            text += f" (tried: {'; '.join(self._tried())})"
        if self.silent:
            plural = "image" if self.images == 1 else "images"
            text += (
                f". {self.silent} of {self.channels} channels never fired on {self.images} {plural}"
                f"{'' if self.method == 'headroom' else ', and are silent now'}: give more"
            )
        return text

    def _tried(self) -> list[str]:
        """Each L with the error of each method."""
        found: dict[float, list[str]] = {}
        for row in self.tried:
            shown = f"{row['method']} {100 * row['logit_error']:.2g} %"
            found.setdefault(row["levels"], []).append(shown)
        return [f"L = {levels}: {', '.join(shown)}" for levels, shown in found.items()]


@dataclasses.dataclass(eq=False)
class ConversionInfo(_Columns):
    """How a spiking network was made.

    Attributes:
        neuron, attention, readout, mask_scaling, seed: as given to `convert_model`.
        mask: ratio of the spikes that masks drop, [0, 1).
        mask_sites: names of the masked sites.
        trained_mask: the ratio that the network was trained with.
        levels: L, the largest of all sites.
        spike_values: every number of spikes that one step may send, in units.
        timesteps: T by default; None if it must be given.
        calibration, calibration_text: what was fitted to data, also in words.
        layer_errors: rows of `convert.layer_errors`.
        logit_errors, convergence: {T: relative error of the logits}, also in words.
        sites: which sites were inserted, "relu" or "all"; None of older conversions.
        fidelity, fidelity_text: how near the quantised network is to the one that was given, also in
            words; None where that was quantised already.
        products: how products of two values count; None of older conversions, "dense" there.
    """

    neuron: str
    attention: str
    readout: str
    mask: float
    mask_scaling: str
    mask_sites: list[str]
    trained_mask: float
    seed: int
    levels: int
    spike_values: list[int]
    timesteps: int | None
    calibration: Fitted | None = None
    calibration_text: str | None = None
    layer_errors: list[dict[str, float | str]] | None = None
    logit_errors: dict[str, float | str] | None = None
    convergence: str | None = None
    sites: str | None = None
    products: str | None = None
    fidelity: Fidelity | None = None
    fidelity_text: str | None = None

    def __post_init__(self):
        if isinstance(self.calibration, dict):
            self.calibration = Fitted.from_dict(self.calibration)
        if isinstance(self.fidelity, dict):
            self.fidelity = Fidelity.from_dict(self.fidelity)
        super().__post_init__()
        check_choices(self.neuron, self.attention, self.readout, self.mask_scaling, self.products)
        check_ratio(self.mask)
        check_ratio(self.trained_mask)
        fitted = self.calibration.steps if self.calibration else None
        for name, number in (
            ("levels", self.levels),
            ("timesteps", self.timesteps),
            ("steps of the calibration", fitted),
        ):
            if number is not None and number < 1:
                raise ValueError(f"{name} is {number}, but must be at least 1")
        if any(row.keys() != _LAYER for row in self.layer_errors or ()):
            raise ValueError(f"a row of layer_errors does not hold {', '.join(sorted(_LAYER))}")


def check_choices(
    neuron: str, attention: str, readout: str, mask_scaling: str, products: str | None = None
) -> None:
    """ValueError for a name that is unknown, or that does not go with the neuron's coding."""
    coding = NEURONS[NEURONS.check(neuron)].coding
    if ATTENTIONS.check(attention) not in coding.attentions:
        raise ValueError(
            f"attention {attention!r} is for neuron 'if'; neuron {neuron!r} is read by "
            "running sums: use attention='accumulated'"
        )
    coding.check_readout(readout)
    SCALINGS.check(mask_scaling)
    if products is not None:
        PRODUCTS.check(products)
