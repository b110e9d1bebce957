"""A model looked at once: traced, in normal form, found convertible, compared with itself."""

import copy
import dataclasses

from torch import fx, nn

from ..neurons import QCFS
from .analysis import check_convertible, check_model
from .errors import Offence, UnconvertibleError
from .normal_form import normal_form
from .number_check import check_numbers
from .planned_sites import open_sites, plan_sites
from .surgery import calls


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """What thresholds, QCFS, conversion and comparisons start from; made by `prepare`.

    Attributes:
        graph: the network in normal form, in eval mode; to change it, take a `copy`.
        sites: as given to `prepare`.
        training: whether the caller's model was in train mode.
        levels: {QCFS site: its levels L}; empty for a network with plain ReLU.
    """

    graph: fx.GraphModule
    training: bool
    levels: dict[str, int]
    sites: str = "relu"

    def copy(self) -> fx.GraphModule:
        """The graph to change, on modules and tensors of its own."""
        return copy.deepcopy(self.graph)


def prepare(
    model: nn.Module | Prepared, leaf_modules=(), example_inputs=None, sites: str = "relu"
) -> Prepared:
    """Trace a model and refuse all at once what cannot be converted; a prepared one comes back.

    Args:
        leaf_modules: modules (types, instances or names) that are not looked into.
        example_inputs: an image batch, where control flow depends on sizes.
        sites: where activation sites of a network without QCFS are: "relu": in place of each ReLU;
            "all": also in front of every other layer with weights and every product of two values
            (`plan_sites`); what is nonlinear is not refused then.

    Raises:
        UnconvertibleError: lists every operation that cannot be converted.
        ValueError: weights that cannot be used.
    """
    if isinstance(model, Prepared):
        return model
    model = check_model(model)
    has_sites = any(isinstance(module, QCFS) for module in model.modules())
    sites = "relu" if has_sites else sites
    gm = normal_form(model, leaf_modules, example_inputs, False, sites)
    check_convertible(gm, sites)
    if sites == "all" and plan_sites(gm) == 0 and not open_sites(gm):
        what = "has no layer with weights and no product behind its first layer"
        remedy = "there is nothing that spikes could drive: give a deeper network"
        raise UnconvertibleError([Offence("(the whole model)", what, None, remedy)])
    levels = {node.target: site.levels for node, site in calls(gm, QCFS)}
    if not (levels and isinstance(model, fx.GraphModule)):  # insert_qcfs compared that one
        check_numbers(model, gm)
    return Prepared(gm.eval(), model.training, levels, sites)
