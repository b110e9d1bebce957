"""What each operation of a graph is to a spiking network: the one table that all passes read.

LINEAR     f(a x + b y) = a f(x) + b f(y), up to an offset that the module names itself (its bias)
ADDITIVE   sum or difference; with a constant operand it is an offset
PRODUCT    linear while at most one operand changes over time, a product of streams otherwise
NONLINEAR  must see running values (softmax, max-pool, layer norm, gates)
ACTIVATION becomes a QCFS site: ReLU and its clipped forms
SITE, MASK our own QCFS, neurons and spike masks
NORM       batch norm: an affine current in eval mode
SIZE       shapes and arithmetic on Python numbers
REFUSED    cannot be converted; the remedy stands beside it
"""

import enum
import math
import operator

import torch
import torch.nn.functional as F
from torch import fx, nn

from ..neurons import QCFS, ChannelAffine, ClippedReLU, SeededMask, SpikeMask, SpikingNeuron


class Kind(enum.Enum):
    LINEAR = "linear"
    ADDITIVE = "additive"
    PRODUCT = "product"
    NONLINEAR = "nonlinear"
    ACTIVATION = "activation"
    SITE = "site"
    MASK = "mask"
    NORM = "norm"
    SIZE = "size"
    REFUSED = "refused"


RELU_REMEDY = "train it with ReLU (or put QCFS behind it) and convert that"
_RECURRENT_REMEDY = "recurrent layers have no rate-coded form; use convolutions or attention"
_RANDOM_REMEDY = "it is random in eval mode: make the network a pure function of the image"
_ATTENTION_REMEDY = "write it with nn.Linear, softmax and matmul, which are converted"
UNKNOWN_REMEDY = "mark its module as a leaf (leaf_modules=...): it then runs on running values"

WEIGHT_LAYERS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.Linear,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)
DROPOUTS = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)

# Module classes, most specific first; a subclass counts as its base unless it is listed itself.
_MODULES: list[tuple[tuple[type, ...], Kind, str]] = [
    ((QCFS, ClippedReLU, SpikingNeuron), Kind.SITE, ""),
    ((SpikeMask, SeededMask), Kind.MASK, ""),
    ((nn.ReLU6, nn.ReLU), Kind.ACTIVATION, ""),
    (
        (
            nn.LeakyReLU,
            nn.PReLU,
            nn.RReLU,
            nn.GELU,
            nn.SiLU,
            nn.Mish,
            nn.ELU,
            nn.CELU,
            nn.SELU,
            nn.Hardswish,
            nn.Tanh,
            nn.Softplus,
            nn.Softsign,
            nn.LogSigmoid,
            nn.Hardtanh,
            nn.Tanhshrink,
            nn.Softshrink,
            nn.Hardshrink,
            nn.Threshold,
            nn.GLU,
        ),
        Kind.REFUSED,
        RELU_REMEDY,
    ),
    ((nn.RNNBase, nn.RNNCellBase), Kind.REFUSED, _RECURRENT_REMEDY),
    (
        (
            nn.MultiheadAttention,
            nn.Transformer,
            nn.TransformerEncoder,
            nn.TransformerEncoderLayer,
            nn.TransformerDecoder,
            nn.TransformerDecoderLayer,
        ),
        Kind.REFUSED,
        _ATTENTION_REMEDY,
    ),
    (BATCH_NORMS, Kind.NORM, ""),
    (
        (
            *WEIGHT_LAYERS,
            ChannelAffine,
            nn.Identity,
            nn.Flatten,
            nn.Unflatten,
            *DROPOUTS,
            nn.AvgPool1d,
            nn.AvgPool2d,
            nn.AvgPool3d,
            nn.AdaptiveAvgPool1d,
            nn.AdaptiveAvgPool2d,
            nn.AdaptiveAvgPool3d,
            nn.Upsample,
            nn.ZeroPad1d,
            nn.ZeroPad2d,
            nn.ZeroPad3d,
            nn.ReflectionPad1d,
            nn.ReflectionPad2d,
            nn.ReflectionPad3d,
            nn.ReplicationPad1d,
            nn.ReplicationPad2d,
            nn.ReplicationPad3d,
            nn.CircularPad1d,
            nn.CircularPad2d,
            nn.PixelShuffle,
            nn.PixelUnshuffle,
            nn.ChannelShuffle,
            nn.Fold,
            nn.Unfold,
        ),
        Kind.LINEAR,
        "",
    ),
    (
        (
            nn.MaxPool1d,
            nn.MaxPool2d,
            nn.MaxPool3d,
            nn.AdaptiveMaxPool1d,
            nn.AdaptiveMaxPool2d,
            nn.AdaptiveMaxPool3d,
            nn.LPPool1d,
            nn.LPPool2d,
            nn.Softmax,
            nn.LogSoftmax,
            nn.Softmax2d,
            nn.LayerNorm,
            nn.GroupNorm,
            nn.InstanceNorm1d,
            nn.InstanceNorm2d,
            nn.InstanceNorm3d,
            nn.LocalResponseNorm,
            nn.Sigmoid,
            nn.Hardsigmoid,
            nn.ConstantPad1d,
            nn.ConstantPad2d,
            nn.ConstantPad3d,
        ),
        Kind.NONLINEAR,
        "",
    ),
]
_MODULE_NAMES = {
    "DropPath": Kind.LINEAR,
    "StochasticDepth": Kind.LINEAR,
    "DropBlock2d": Kind.LINEAR,
    "RMSNorm": Kind.NONLINEAR,
    "LayerNorm2d": Kind.NONLINEAR,
}

_LINEAR = """flatten unflatten reshape view permute transpose t swapaxes swapdims movedim moveaxis
squeeze unsqueeze cat concat concatenate stack hstack vstack split split_with_sizes chunk
tensor_split unbind roll flip narrow select index_select take_along_dim gather mean sum neg
contiguous clone detach to float double half bfloat16 type_as expand expand_as repeat
repeat_interleave getitem avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
adaptive_avg_pool3d interpolate upsample unfold fold pixel_shuffle pixel_unshuffle channel_shuffle
cumsum rot90 tril triu diagonal alpha_dropout dropout dropout1d dropout2d dropout3d
feature_dropout broadcast_to view_as reshape_as positive conv1d conv2d conv3d linear
conv_transpose1d conv_transpose2d conv_transpose3d stochastic_depth drop_path""".split()
_LINEAR.append("set_part")
_ADDITIVE = "add sub iadd isub subtract add_ sub_ rsub".split()
_PRODUCT = """mul imul multiply mul_ matmul bmm mm mv einsum div truediv itruediv div_ divide
true_divide""".split()
_NONLINEAR = """softmax log_softmax max_pool1d max_pool2d max_pool3d adaptive_max_pool1d
adaptive_max_pool2d adaptive_max_pool3d layer_norm group_norm instance_norm local_response_norm
rms_norm normalize sigmoid hardsigmoid exp log sqrt rsqrt pow ipow square abs max amax min amin
maximum minimum scaled_dot_product_attention var std var_mean norm reciprocal masked_fill
masked_fill_ where logsumexp lp_pool2d topk argmax sort batch_norm clamp clamp_ clip hardtanh
clamp_max softmin sin cos invert bitwise_not logical_not logical_and logical_or prod cumprod log1p
expm1 log2 log10 exp2 cdist cosine_similarity std_mean""".split()
_REFUSED = """leaky_relu prelu rrelu gelu silu mish elu celu selu hardswish tanh softplus softsign
logsigmoid glu threshold leaky_relu_ elu_ silu_ tanh_ sign round floor ceil heaviside""".split()
_RANDOM = """rand randn randint randperm rand_like randn_like randint_like bernoulli multinomial normal
poisson gumbel_softmax bernoulli_ uniform_ normal_ random_ exponential_ log_normal_ cauchy_
geometric_""".split()
_SIZE = """size dim numel eq ne lt le gt ge floordiv mod is_ not_ and_ or_ _assert _assert_scalar
int sym_int len min max""".split()

_NAMED = (
    [(n, Kind.LINEAR) for n in _LINEAR]
    + [(n, Kind.ADDITIVE) for n in _ADDITIVE]
    + [(n, Kind.PRODUCT) for n in _PRODUCT]
    + [(n, Kind.REFUSED) for n in _REFUSED]
)
_FUNCTIONS = {
    **dict.fromkeys(_SIZE, Kind.SIZE),
    **dict(_NAMED),
    **dict.fromkeys(_NONLINEAR, Kind.NONLINEAR),
}
_CREATE = {
    torch.zeros,
    torch.ones,
    torch.full,
    torch.arange,
    torch.linspace,
    torch.empty,
    torch.zeros_like,
    torch.ones_like,
    torch.full_like,
    torch.eye,
    torch.meshgrid,
}

KNOWN_OPERATIONS = frozenset(
    {n for n, k in _FUNCTIONS.items() if k is not Kind.REFUSED}
    | {
        "ceil",
        "floor",
        "float",
        "int",
        "pad",
        "neg",
        "getitem",
        "slice",
        "zeros",
        "ones",
        "full",
        "arange",
        "linspace",
        "empty",
        "zeros_like",
        "ones_like",
        "full_like",
        "eye",
        "meshgrid",
        "new_zeros",
        "new_ones",
        "new_full",
        "new_empty",
        "boolean_dispatch",
        "leaky_relu",
        "prelu",
        "gelu",
        "silu",
        "mish",
        "elu",
        "celu",
        "selu",
        "hardswish",
        "tanh",
        "softplus",
        "softsign",
        "logsigmoid",
        "glu",
    }
)
_CREATE_METHODS = {"new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like"}


def function_name(node: fx.Node) -> str:
    """Plain name of a call_function or call_method node: "conv2d", "add", "softmax"."""
    if node.op == "call_method":
        return node.target
    name = getattr(node.target, "__name__", str(node.target))
    return {"_softmax": "softmax", "boolean_dispatch": "max_pool2d"}.get(name, name)


def is_max_pool(node: fx.Node) -> bool:
    return node.target in (
        F.max_pool1d,
        F.max_pool2d,
        F.max_pool3d,
        F.adaptive_max_pool1d,
        F.adaptive_max_pool2d,
        F.adaptive_max_pool3d,
    )


def reads_size(node: fx.Node) -> bool:
    """x.size(), x.shape, x.dim() and the like."""
    return (
        node.op == "call_method"
        and node.target in ("size", "dim", "numel", "ndimension")
        or node.target is getattr
    )


def creates(node: fx.Node) -> bool:
    """torch.zeros and the like: a tensor made of sizes."""
    return (
        node.op == "call_function"
        and node.target in _CREATE
        or node.op == "call_method"
        and node.target in _CREATE_METHODS
    )


def module_of(graph_module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return graph_module.get_submodule(node.target) if node.op == "call_module" else None


def relu_bound(module: nn.Module) -> float | None:
    """Upper bound of a module that is a ReLU (infinity) or a clipped ReLU, else None."""
    if type(module) is nn.ReLU:
        return math.inf
    if isinstance(module, nn.Hardtanh):  # ReLU6 is one
        return float(module.max_val) if module.min_val == 0 else None
    return None


def classify(graph_module: fx.GraphModule, node: fx.Node, leaves=()) -> tuple[Kind, str]:
    """Kind of a node that calls something, and the remedy if it is refused.

    Args:
        leaves: names of modules that the user marked as leaves; they run on running values.
    """
    module = module_of(graph_module, node)
    if module is not None:
        return classify_module(module, node.target in leaves)
    if creates(node) or node.target in (getattr, math.ceil, math.floor, int, float):
        return Kind.SIZE, ""
    if is_max_pool(node):
        return Kind.NONLINEAR, ""
    name = function_name(node)
    if node.op == "call_function" and node.target is operator.getitem:
        return Kind.LINEAR, ""
    if name in _RANDOM:
        return Kind.REFUSED, _RANDOM_REMEDY
    kind = _FUNCTIONS.get(name)
    if kind is None:
        return Kind.REFUSED, UNKNOWN_REMEDY
    if kind is Kind.LINEAR and name == "pad":
        return Kind.LINEAR, ""
    if kind is Kind.REFUSED:
        return kind, RELU_REMEDY
    return kind, ""


def classify_module(module: nn.Module, user_leaf: bool = False) -> tuple[Kind, str]:
    """Kind of a module's class, and the remedy if it is refused."""
    if relu_bound(module) is not None:
        return Kind.ACTIVATION, ""
    for classes, kind, remedy in _MODULES:
        if isinstance(module, classes):
            if kind is Kind.REFUSED and user_leaf:
                return Kind.NONLINEAR, ""
            return kind, remedy
    if type(module).__name__ in _MODULE_NAMES:
        return _MODULE_NAMES[type(module).__name__], ""
    return (Kind.NONLINEAR, "") if user_leaf else (Kind.REFUSED, UNKNOWN_REMEDY)


_FUNCTIONS["pad"] = Kind.LINEAR
POINTWISE_REFUSED = set(_REFUSED) - {"sign", "round", "floor", "ceil", "heaviside"}


def is_pointwise_activation(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    """A smooth or leaky activation: refused in a plain network, analog in one with QCFS sites."""
    module = module_of(graph_module, node)
    if module is not None:
        return isinstance(module, _MODULES[3][0]) and relu_bound(module) is None
    return function_name(node) in POINTWISE_REFUSED
