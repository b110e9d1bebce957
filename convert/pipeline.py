"""The order of the conversion passes; read the list aloud."""

import logging
from collections.abc import Callable
from functools import partial

from torch import fx

from ..graph.normal_form import weight_functions_to_modules
from ..graph.surgery import drop_unused
from ..neurons import NEURONS
from .passes.constants import copy_borrowed_tensors, fold_constants
from .passes.domains import assign_domains
from .passes.inactive import remove_inactive
from .passes.masks import masks_to_seeded
from .passes.norms import fold_batch_norms, norms_to_affine
from .passes.sites import qcfs_to_neurons
from .passes.weights import bake_reparametrisations, split_shared_layers

log = logging.getLogger(__name__)


def conversion_passes(
    neuron: str, per_step_attention: bool, mask_scaling: str, seed: int, leaves=()
) -> list[Callable[[fx.GraphModule], int]]:
    """From a QCFS network in normal form to the graph of a spiking network."""
    coding = NEURONS[neuron].coding
    return [
        bake_reparametrisations,
        copy_borrowed_tensors,
        partial(fold_constants, clip=coding.clips),
        weight_functions_to_modules,
        remove_inactive,
        split_shared_layers,
        fold_batch_norms,
        norms_to_affine,
        partial(masks_to_seeded, seed=seed, scaling=mask_scaling, frozen=coding.freezes_masks),
        partial(qcfs_to_neurons, neuron=neuron),
        partial(
            assign_domains, coding=coding, per_step_attention=per_step_attention, leaves=leaves
        ),
    ]


def run_passes(gm: fx.GraphModule, passes) -> fx.GraphModule:
    """Run passes in order; each is numbered and logged with what it changed."""
    for number, one in enumerate(passes, 1):
        name = getattr(one, "func", one).__name__
        log.info("pass %d, %s: %d changed", number, name, one(gm))
    drop_unused(gm)
    return gm
