"""The three functions that users call: insert QCFS, convert, clip."""

from torch import fx, nn

from ..calibrate import Batches
from ..graph import Prepared, prepare
from ..graph.copying import copy_model
from ..graph.image_size import guard_image_size
from ..graph.inputs import input_names, shapes_of
from ..graph.outputs import restore_structure
from ..graph.surgery import calls
from ..neurons import NEURONS, QCFS, PlannedSite
from ..neurons.mask import check_ratio
from ..snn.info import ConversionInfo, check_choices
from ..snn.network import SpikingNetwork
from ..support.choices import CALIBRATIONS, SITES
from ..support.precision import full_precision
from ..support.whole_numbers import whole_number
from .calibration import Calibration
from .own_network import LEVELS, quantise_own
from .passes.masks import (
    check_mask_sites,
    default_mask_sites,
    insert_masks,
    masked_sites,
    remove_masks,
    site_names,
    trained_ratio,
)
from .passes.sites import open_sites_to_qcfs, qcfs_to_clipped
from .pipeline import conversion_passes, run_passes
from .self_check import check_conversion, remember


@full_precision
def insert_qcfs(
    model: nn.Module | Prepared,
    levels: int = 16,
    threshold: float = 2.0,
    thresholds=None,
    mask: float = 0.0,
    mask_sites=None,
    leaf_modules=(),
    example_inputs=None,
    sites: str = "relu",
) -> fx.GraphModule:
    """A trainable copy of a model in which every ReLU is a QCFS, with random spike masks.

    Args:
        model: any traceable network.
        levels: L, levels above zero of each activation.
        threshold: starting threshold of every site.
        thresholds: {site: tensor} from `activation_thresholds`, in place of `threshold`.
        mask: ratio p of spikes that a mask drops; 0 inserts none.
        mask_sites: names of the sites to mask (default: q, k and scores where there is attention,
            the input of each block in our ResNet and VGG, otherwise every site).
        leaf_modules: modules (types, instances or names) that are not looked into.
        example_inputs: an image batch, where control flow depends on sizes.
        sites: "relu": a QCFS in place of every ReLU, ReLU6 or clamp(0, c), all that there is must be
            one; "all": also in front of every other layer with weights and of both operands of every
            product, signed where the value can be negative.

    Returns:
        A GraphModule in the mode (train or eval) of `model`, with the same module paths.

    Raises:
        UnconvertibleError: lists every operation that cannot be converted.
        ValueError: impossible levels, threshold, mask or site names.
    """
    ratio = check_ratio(mask)
    sites = "relu" if SITES.check(sites) == "auto" else sites
    prepared = prepare(model, leaf_modules, example_inputs, sites)
    gm = prepared.copy()
    open_sites_to_qcfs(gm, levels, threshold, thresholds)
    _set_masks(gm, ratio, mask_sites, "none")
    gm.delete_all_unused_submodules()
    _keep_image_shape(gm)
    guard_image_size(gm)
    restore_structure(gm)
    return gm.train(prepared.training)


def sites_of(sites: str, neuron: str) -> str:
    """Where the sites are: "auto" is everywhere for neurons that can be negative."""
    everywhere = NEURONS[neuron].stands_for_signed
    return ("all" if everywhere else "relu") if SITES.check(sites) == "auto" else sites


def _keep_image_shape(gm: fx.GraphModule) -> None:
    """The size of an image [C, H, W] of every input stays in the graph's meta, the example does not."""
    gm.meta.pop("traced_with", None)
    example = gm.meta.pop("example", None)
    if example is not None:
        gm.meta["image_shape"], *gm.meta["more_shapes"] = shapes_of(example)


def _set_masks(gm: fx.GraphModule, ratio: float, mask_sites, scaling: str) -> list[str]:
    """Masks of this ratio at these sites, in place of those that are there; returns the sites."""
    sites = site_names(gm)
    wanted = check_mask_sites(mask_sites, sites) if mask_sites is not None else None
    if ratio == 0:
        remove_masks(gm)
        return []
    if wanted is None:
        wanted = masked_sites(gm) or default_mask_sites(gm)
    remove_masks(gm)
    insert_masks(gm, ratio, wanted, scaling)
    return wanted


def clipped(model: nn.Module) -> nn.Module:
    """A copy in which every QCFS is clip(x, 0, threshold): what rate coding tends to."""
    if not any(isinstance(module, QCFS) for module in model.modules()):
        raise ValueError("the model has no QCFS site to clip; call insert_qcfs first")
    model = copy_model(model)
    qcfs_to_clipped(model)
    return model


@full_precision
def convert_model(
    model: nn.Module | Prepared,
    neuron: str = "if",
    attention: str = "accumulated",
    mask: float | None = None,
    mask_scaling: str = "none",
    mask_sites=None,
    readout: str = "mean",
    seed: int = 0,
    calibration=None,
    calibrate: str = "thresholds",
    calibration_steps: int | None = None,
    levels: int | None = None,
    per_channel: bool = True,
    leaf_modules=(),
    example_inputs=None,
    check: bool = True,
    sites: str = "auto",
    products: str = "increments",
    method: str = "auto",
    percentile: float = 99.9,
) -> SpikingNetwork:
    """Convert a QCFS network, or any pretrained network and images, to a spiking network.

    Args:
        model: a network with QCFS sites, or one without them together with `calibration`.
        neuron: "if" (sends {0, s}), "stbif" (one signed level per step) or "multi" (one signed power
            of two of levels per step).
        attention: "accumulated": softmax and products on running values; "per-step": on the spikes
            of one step, as published for MST (neuron "if" alone; does not converge).
        mask: ratio of random spike masks (default: as trained).
        mask_scaling: "none" or "inverse" (kept spikes times 1/(1-p)).
        mask_sites: see `insert_qcfs`.
        readout: "mean" or "second-half".
        seed: names the masks.
        calibration: batches of images; see `calibrate.Batches` for the forms.
        calibrate: "thresholds" takes them from the data (of a QCFS network with neuron "if": fits
            them, never above the trained ones); "bias", for neuron "if", fits the step-wise bias,
            too, at the sites that read a residual stream, "bias-everywhere" at all sites (a table
            some 5 times as large).
        calibration_steps: T that the step-wise bias is fitted for.
        levels: L for a network without QCFS sites; None: the fewest of 16 to 256 that are good
            enough by the logits on held-back images (for neuron "if", whose spikes have no levels, 16).
        per_channel: one threshold per channel (else one per site).
        check: prove on three steps of the example, or of noise, that the spiking network tends to
            the network that it was made of.
        sites: of a network without QCFS sites, see `insert_qcfs`; "auto" is "all" for the neurons
            "multi" and "stbif", which can send negative values, and "relu" for "if".
        products: how products of two values (attention, gates) are counted: "increments", an
            accumulation for each spike and output that it reaches, or "dense", all multiplications
            in every step. The outputs are the same.
        method: how thresholds are taken from the calibration images, see `activation_thresholds`;
            "auto": the rule with the least error of the logits on images that are held back.
        percentile: for that method.

    Raises:
        UnconvertibleError: lists every operation that cannot be converted.
        ValueError: impossible values or combinations.
    """
    check_choices(neuron, attention, readout, mask_scaling, products)
    ratio = None if mask is None else check_ratio(mask)
    seed = whole_number("seed", seed, least=None)
    _check_calibration(calibration, calibrate, calibration_steps, NEURONS[neuron])
    if calibration is not None:
        calibration = Batches(calibration, input_names(model))
        example_inputs = calibration.first if example_inputs is None else example_inputs
    signed = NEURONS[neuron].stands_for_signed
    sites = sites_of(sites, neuron)
    prepared = prepare(model, leaf_modules, example_inputs, sites)
    gm = prepared.copy()
    if not signed:
        _check_signs(gm, neuron)
    fidelity = None
    if prepared.levels:
        _check_quantised(levels, calibration, neuron)
    else:
        fidelity = _quantise(
            gm, prepared, calibration, method, levels, per_channel, percentile, signed
        )
    trained = trained_ratio(gm)
    ratio = trained if ratio is None else ratio
    _set_masks(gm, ratio, mask_sites, mask_scaling)
    masked = masked_sites(gm)
    fit = None
    if calibration is not None and (prepared.levels or CALIBRATIONS[calibrate].bias):
        fit = Calibration(gm, calibration, calibrate, calibration_steps)
    if fit is not None:
        fit.fit_thresholds(gm)
    all_levels = sorted({m.levels for m in gm.modules() if isinstance(m, QCFS)})
    before = remember(gm) if check else None
    run_passes(
        gm,
        conversion_passes(neuron, attention == "per-step", mask_scaling, seed, gm.meta["leaves"]),
    )
    _keep_image_shape(gm)
    gm.requires_grad_(False).eval()
    info = ConversionInfo(
        neuron=neuron,
        attention=attention,
        readout=readout,
        mask=ratio,
        mask_scaling=mask_scaling,
        mask_sites=masked,
        trained_mask=trained,
        seed=int(seed),
        levels=all_levels[-1],
        spike_values=_spike_values(gm),
        timesteps=None,
        sites=prepared.sites,
        products=products,
        fidelity=fidelity,
        fidelity_text=fidelity and fidelity.words,
    )
    network = SpikingNetwork(gm, info).eval()
    if before is not None:
        check_conversion(network, before)
    if fit is not None:
        fit.fit_bias(network)
    return network


def _spike_values(gm: fx.GraphModule) -> list[int]:
    return max(
        (m.alphabet for m in gm.modules() if isinstance(m, tuple(NEURONS.values()))), key=len
    )


def _check_calibration(calibration, calibrate: str, steps, neuron) -> None:
    CALIBRATIONS.check(calibrate)
    if calibration is None and (calibrate != "thresholds" or steps is not None):
        raise ValueError(
            f"calibrate={calibrate!r} with calibration_steps={steps} needs images: give "
            "calibration=loader"
        )
    if CALIBRATIONS[calibrate].bias and not neuron.coding.calibrations:
        raise ValueError(
            f"calibrate={calibrate!r} is for neuron 'if': neuron {neuron.kind!r} sends what is "
            "missing by itself; use calibrate='thresholds'"
        )


def _check_quantised(levels, calibration, neuron: str) -> None:
    if levels is not None:
        raise ValueError(
            f"levels={levels} was given for a network that has QCFS sites, which keep "
            "the levels that they were trained with; leave levels out"
        )
    if calibration is not None and not NEURONS[neuron].coding.calibrations:
        raise ValueError(
            f"neuron {neuron!r} is exact on a QCFS network without calibration; leave "
            "calibration out, or use neuron='if'"
        )


def _quantise(gm, prepared, calibration, method, levels, per_channel, percentile, signed):
    if calibration is None:
        raise ValueError(
            "the network has no QCFS sites, so no thresholds; give calibration=loader "
            "with images, or train it with insert_qcfs first"
        )
    counts = LEVELS if signed else (16,)
    return quantise_own(gm, prepared, calibration, method, levels, per_channel, percentile, counts)


def _check_signs(gm: fx.GraphModule, neuron: str) -> None:
    names = [node.target for node, site in calls(gm, QCFS, PlannedSite) if site.signed]
    if names:
        raise ValueError(
            f"neuron {neuron!r} sends no negative spikes, but {len(names)} sites see negative "
            f"values, {names[0]!r} first; use neuron='multi' or 'stbif', or a network with ReLU in "
            "front of its layers and sites='relu'"
        )
