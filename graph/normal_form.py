"""The normal form that conversion and calibration start from: every activation is a module of its own.

Read the list at the end aloud: in-place operations made plain, functions turned into modules, fused
norms split, shared activations given a module for each call.
"""

import copy
import logging

import torch
from torch import fx, nn

from ..neurons import QCFS, ClippedReLU
from ..ops import Operation, operation_of
from ..ops.as_modules import argument, as_module
from ..ops.table import classes_of
from .capture import trace
from .copying import unwrap
from .errors import module_path
from .image_size import check_image_size
from .in_place import in_place_to_plain
from .number_check import check_numbers
from .sizes import reads_pixels
from .spelling import attributes_to_calls, fused_to_sums, plain_arguments
from .surgery import add_module, attribute, call_module_after, calls, finish, set_module
from .written_out import attention_modules_to_layers, fused_attention_to_products

log = logging.getLogger(__name__)

ASSERTIONS = (torch._assert, torch._assert_async, check_image_size)  # held for the example


def drop_assertions(gm: fx.GraphModule) -> int:
    """torch._assert, our own check of the image size, and what leads to nothing."""
    changed = 0
    for node in list(gm.graph.nodes):
        if node.op == "call_function" and node.target in ASSERTIONS:
            gm.graph.erase_node(node)
            changed += 1
    changed += gm.graph.eliminate_dead_code()
    return finish(gm, changed)


def functions_to_modules(gm: fx.GraphModule) -> int:
    """F.relu, x.relu(), clamp(0, c), F.dropout ... to modules, named after the module they are in.

    What is not made of pixels (positions, parameters) never spikes and stays a function.
    """
    changed = 0
    for node in list(gm.graph.nodes):
        if node.op not in ("call_function", "call_method"):
            continue
        found = as_module(node)
        if found is None or not reads_pixels(node):
            continue
        name, module = found
        path = module_path(node)
        node.target = add_module(gm, f"{path}.{name}" if path else name, module)
        node.op, node.args, node.kwargs = (
            "call_module",
            (node.args[0] if node.args else node.kwargs["input"],),
            {},
        )
        changed += 1
    return finish(gm, changed)


def weight_functions_to_modules(gm: fx.GraphModule) -> int:
    """F.conv2d, F.linear with constant weights to modules (traced "same" convolutions have them)."""
    changed = 0
    for node in list(gm.graph.nodes):
        if node.op != "call_function":
            continue
        row = operation_of(gm, node)
        if row.name == "batch_norm":
            module = _norm_module(gm, node)
        else:
            module = _weight_module(gm, node, row) if row.synapses else None
        if module is None:
            continue
        path = module_path(node)
        node.target = add_module(gm, f"{path}.{row.name}" if path else row.name, module)
        node.op, node.kwargs = "call_module", {}
        node.args = (node.args[0],)
        changed += 1
    return finish(gm, changed)


def _constant(gm: fx.GraphModule, value):
    if isinstance(value, fx.Node):
        return attribute(gm, value.target) if value.op == "get_attr" else ...
    return value


def _weight_module(gm: fx.GraphModule, node: fx.Node, row: Operation) -> nn.Module | None:
    kind = next(iter(classes_of(row.name)), None)
    if kind is None or issubclass(kind, nn.modules.conv._ConvTransposeNd):
        return None
    weight = _constant(gm, argument(node, 1, "weight"))
    bias = _constant(gm, argument(node, 2, "bias"))
    if weight is ... or bias is ... or len(node.all_input_nodes) > 2 + (bias is not None):
        return None
    if kind is nn.Linear:
        module = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    else:
        groups = argument(node, 6, "groups", 1)
        module = kind(
            weight.shape[1] * groups,
            weight.shape[0],
            tuple(weight.shape[2:]),
            argument(node, 3, "stride", 1),
            argument(node, 4, "padding", 0),
            argument(node, 5, "dilation", 1),
            groups,
            bias is not None,
        )
    module.to(weight.device, weight.dtype)
    module.weight.data.copy_(weight)
    if bias is not None:
        module.bias.data.copy_(bias)
    return module


def _norm_module(gm: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    mean, var = (
        _constant(gm, argument(node, i, k)) for i, k in ((1, "running_mean"), (2, "running_var"))
    )
    weight, bias = (_constant(gm, argument(node, i, k)) for i, k in ((3, "weight"), (4, "bias")))
    if any(v is ... for v in (mean, var, weight, bias)) or mean is None:
        return None
    module = nn.BatchNorm2d(mean.numel(), eps=argument(node, 7, "eps", 1e-5))
    module.to(mean.device, mean.dtype).eval()
    module.running_mean.copy_(mean)
    module.running_var.copy_(var)
    for parameter, value in ((module.weight, weight), (module.bias, bias)):
        if value is not None:
            parameter.data.copy_(value)
    module._check_input_dim = lambda x: None
    return module


def split_fused_norms(gm: fx.GraphModule) -> int:
    """timm's norm-and-activation layers to a batch norm, its dropout and its activation."""
    changed = 0
    for node, module in calls(gm, nn.modules.batchnorm._BatchNorm):
        act = getattr(module, "act", None)
        if not isinstance(act, nn.Module) or type(module).__module__.startswith("torch.nn"):
            continue  # a torch norm only carries an activation that was split off before
        plain = nn.BatchNorm2d(
            module.num_features,
            module.eps,
            module.momentum,
            module.affine,
            module.track_running_stats,
        )
        plain.load_state_dict({k: v for k, v in module.state_dict().items() if "." not in k})
        for key, parameter in module.named_parameters(recurse=False):
            plain.to(parameter.device, parameter.dtype)
            setattr(plain, key, parameter)
        plain.train(module.training)
        if module.running_mean is not None:
            plain.to(module.running_mean.device)
        set_module(gm, node.target, plain)
        last = node
        for part, child in (("drop", getattr(module, "drop", None)), ("act", act)):
            if child is not None and not isinstance(child, nn.Identity):
                if getattr(child, "inplace", False):
                    child.inplace = False
                last = call_module_after(gm, last, f"{node.target}.{part}", child)
        changed += 1
    return finish(gm, changed)


def split_shared_activations(gm: fx.GraphModule, types: tuple[type, ...]) -> int:
    """A module of these types that is called at several places gets a copy for each further call."""
    changed, seen = 0, set()
    for node, module in calls(gm, *types):
        if node.target in seen:
            node.target = add_module(gm, node.target, copy.deepcopy(module))
            changed += 1
        seen.add(node.target)
    return finish(gm, changed)


def normal_form(
    model: nn.Module,
    leaf_modules=(),
    example_inputs=None,
    compare: bool = True,
    sites: str = "relu",
) -> fx.GraphModule:
    """Trace a model and bring it into normal form; numbers and the caller's model stay as they are.

    Args:
        compare: run model and graph on noise and refuse a difference (`check_numbers`); a caller that
            refuses by the table of operations first does that itself, afterwards.
        sites: see `prepare`; for "all" attention is written out, so that its products are seen.
    """
    gm = trace(model, leaf_modules, example_inputs, sites)
    written_out = [attention_modules_to_layers, fused_attention_to_products]
    steps = [
        attributes_to_calls,
        plain_arguments,
        in_place_to_plain,
        drop_assertions,
        fused_to_sums,
        *(written_out if sites == "all" else ()),
        functions_to_modules,
        split_fused_norms,
        lambda g: split_shared_activations(g, (nn.ReLU, nn.Hardtanh, QCFS, ClippedReLU)),
    ]
    for step in steps:
        step(gm)
    if compare:
        check_numbers(unwrap(model), gm)
    return gm
