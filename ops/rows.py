"""The table of operations: functions and methods, one row for each, however it is spelled.

A row is written as `name=other,spellings`; rows that share their facts stand in one call. Module
classes stand in `modules.py`, under the same names. `tests/ops` proves every fact of every row
against PyTorch.
"""

import math
import operator

import torch
from torch import Tensor

from . import batch
from .facts import Channels, Cost, Kind, Operation, Sign, Spikes, View

SMOOTH_REMEDY = (
    'convert it with sites="all" (neuron "multi" or "stbif"), or train it with ReLU (or put QCFS after '
    "it) and convert that"
)
RANDOM_REMEDY = "it is random in eval mode: make the network a pure function of the image"
UNKNOWN_REMEDY = "mark its module as a leaf (leaf_modules=...): it then runs on running values"

LINEAR, ADDITIVE, PRODUCT, NONLINEAR = Kind.LINEAR, Kind.ADDITIVE, Kind.PRODUCT, Kind.NONLINEAR
ACTIVATION, SMOOTH, CREATE, SIZE, REFUSED = (
    Kind.ACTIVATION,
    Kind.SMOOTH,
    Kind.CREATE,
    Kind.SIZE,
    Kind.REFUSED,
)
ALWAYS, PERHAPS = View.ALWAYS, View.PERHAPS
SAME, PART, SCALED, BINARY, UNSURE, NOTHING = (
    Spikes.SAME,
    Spikes.PART,
    Spikes.SCALED,
    Spikes.BINARY,
    Spikes.UNSURE,
    Spikes.NOTHING,
)
KEPT, FIRST, LAST = Channels.KEPT, Channels.FIRST, Channels.LAST
NONNEGATIVE, POSITIVE = Sign.KEPT, Sign.POSITIVE


def _output(args, out: Tensor) -> int:
    """One operation for each element of the result."""
    return out.numel()


def _input(args, out: Tensor) -> int:
    """One operation for each element that is read."""
    return args[0].numel()


def _window(args, out: Tensor) -> int:
    """Elements of the result times the elements of the window."""
    kernel, dims = args[1], out.dim() - 2 if out.dim() > 2 else 1
    size = [kernel] * dims if isinstance(kernel, int) else list(kernel)
    return out.numel() * math.prod(size * dims if len(size) == 1 else size)


COSTS = {
    "normalisation": _output,
    "softmax": _output,
    "pooling": _input,
    "activation": _output,
    "elementwise": _output,
    "comparison": _output,
    "reduction": _input,
    "resampling": _output,
}
WINDOWS = Cost("pooling", _window)


def _rows(kind: Kind, names: str, cost: str | Cost | None = None, **facts) -> list[Operation]:
    """One row for each `name=spelling,spelling@aten,aten`."""
    found = []
    for word in names.split():
        word, _, aten = word.partition("@")
        name, _, others = word.partition("=")
        found.append(
            Operation(
                name,
                kind,
                tuple(others.split(",")) if others else (),
                cost=Cost(cost, COSTS[cost]) if isinstance(cost, str) else cost,
                aten=tuple(aten.split(",")) if aten else (),
                **facts,
            )
        )
    return found


def _view(names: str, rule, view=ALWAYS, spikes=SAME, **facts) -> list[Operation]:
    return _rows(LINEAR, names, view=view, spikes=spikes, sign=NONNEGATIVE, batch=rule, **facts)


def _pointwise(names: str, spikes=Spikes.ANALOG, cost="elementwise", **facts) -> list[Operation]:
    return _rows(NONLINEAR, names, cost, spikes=spikes, channels=KEPT, **facts)


# ---- the same elements elsewhere ------------------------------------------------------------------
MOVES = [
    *_view("transpose=swapaxes,swapdims", batch.swapped),
    *_view("movedim=moveaxis", batch.moved),
    *_view("permute", batch.permuted),
    *_view("t@numpy_T", batch.turned),
    *_view("squeeze", batch.squeezed, in_order=True),
    *_view("unsqueeze", batch.unsqueezed, in_order=True),
    *_view("view@_unsafe_view,_reshape_alias", batch.reshaped, in_order=True),
    *_view("view_as", batch.reshaped, values=(0, 1), in_order=True),
    *_view("reshape", batch.reshaped, PERHAPS, in_order=True),
    *_view("reshape_as", batch.reshaped, PERHAPS, values=(0, 1), in_order=True),
    *_view("flatten", batch.flattened, PERHAPS, in_order=True),
    *_view("unflatten", batch.unflattened, in_order=True),
    *_view("detach=positive,resolve_conj,resolve_neg@alias,_conj", batch.kept, channels=KEPT,
           in_order=True),
    *_view("contiguous@lift_fresh", batch.kept, PERHAPS, channels=KEPT, in_order=True),
    *_view("to=float,double,type,type_as@_to_copy", batch.of_first, PERHAPS, values=(0, 1),
           channels=KEPT, in_order=True),
    *_view("half=bfloat16", batch.kept, PERHAPS, Spikes.UNSURE, channels=KEPT),
    *_view("identity", batch.kept, channels=KEPT, inactive=True, in_order=True),
    *_view("dropout=dropout1d,dropout2d,dropout3d,feature_dropout@native_dropout", batch.kept, PERHAPS,
           channels=KEPT, inactive=True),
    *_view("drop_path=stochastic_depth,drop_block,alpha_dropout,feature_alpha_dropout", batch.kept,
           PERHAPS, channels=KEPT, inactive=True),
    *_view("expand", batch.expanded, spikes=PART),
    *_view("broadcast_to", batch.expanded, spikes=PART),
    *_view("expand_as", batch.as_other, spikes=PART, values=(0, 1)),
    *_view("chunk@unsafe_chunk", batch.along(2, 0), spikes=PART, several=True, takes=2),
    *_view("split=split_with_sizes,tensor_split@unsafe_split,unsafe_split_with_sizes,split_copy",
           batch.along(2, 0), spikes=PART, several=True, takes=2),
    *_view("narrow", batch.along(1), spikes=PART, takes=1),
    *_view("unbind", batch.taken, spikes=PART, several=True, takes=1),
    *_view("select", batch.taken, spikes=PART, takes=1),
    *_view("getitem@slice,index", batch.item, PERHAPS, PART, takes=1),
    *_view("diagonal", batch.diagonals, spikes=PART),
    *_view("unfold", batch.windows, spikes=PART),
    *_view("clone", batch.kept, View.NEVER, channels=KEPT, in_order=True),
    *_view("flip", batch.along(1), View.NEVER),
    *_view("roll", batch.along(2), View.NEVER),
    *_view("rot90", batch.turned_by, View.NEVER),
    *_view("cat=concat,concatenate", batch.joined, View.NEVER, PART, channels=KEPT),
    *_view("hstack", batch.joined_along(1), View.NEVER, PART),
    *_view("vstack", batch.joined_along(0), View.NEVER, PART),
    *_view("stack", batch.stacked, View.NEVER, PART),
    *_view("meshgrid", batch.first_only, PERHAPS, PART, several=True),
    *_view("repeat=tile", batch.repeated, View.NEVER, PART),
    *_view("repeat_interleave", batch.interleaved, View.NEVER, PART),
    *_view("index_select", batch.along(1), View.NEVER, PART),
    *_view("gather", batch.along(1), View.NEVER, PART),
    *_view("take_along_dim", batch.along(2), View.NEVER, PART),
    *_view("tril", batch.upper, View.NEVER, PART),
    *_view("triu", batch.upper, View.NEVER, PART),
    *_view("pad@constant_pad_nd,reflection_pad1d,reflection_pad2d,reflection_pad3d,replication_pad1d,"
           "replication_pad2d,replication_pad3d", batch.padded, View.NEVER, PART, channels=KEPT,
           writes=(3, "value")),
    *_view("pixel_shuffle", batch.first_only, PERHAPS),
    *_view("pixel_unshuffle", batch.first_only, PERHAPS),
    *_view("channel_shuffle@native_channel_shuffle", batch.first_only, View.NEVER),
    *_view("im2col", batch.first_only, View.NEVER, PART),
    *_view("set_part", batch.assigned, View.NEVER, PART, values=(0, 2), channels=KEPT,
           writes=(2, "value")),
]  # fmt: skip

# ---- sums and products ----------------------------------------------------------------------------
SUMS = [
    *_rows(LINEAR, "mean", "pooling", batch=batch.reduced(), sign=NONNEGATIVE),
    *_rows(LINEAR, "sum", "reduction", batch=batch.reduced(), spikes=UNSURE, sign=NONNEGATIVE),
    *_rows(LINEAR, "cumsum", "reduction", batch=batch.along(1), sign=NONNEGATIVE),
    *_rows(LINEAR, "neg=negative", "elementwise", spikes=PART, channels=KEPT),
    *_rows(
        LINEAR,
        "avg_pool1d avg_pool2d avg_pool3d",
        WINDOWS,
        batch=batch.first_only,
        channels=KEPT,
        sign=NONNEGATIVE,
    ),
    *_rows(
        LINEAR,
        "adaptive_avg_pool1d adaptive_avg_pool2d@_adaptive_avg_pool2d "
        "adaptive_avg_pool3d@_adaptive_avg_pool3d",
        "pooling",
        batch=batch.first_only,
        channels=KEPT,
        sign=NONNEGATIVE,
    ),
    *_rows(
        LINEAR,
        "interpolate=upsample@upsample_linear1d,upsample_bilinear2d,"
        "upsample_bicubic2d,_upsample_bilinear2d_aa,_upsample_bicubic2d_aa,upsample_trilinear3d",
        "resampling",
        batch=batch.first_only,
        channels=KEPT,
    ),
    *_rows(LINEAR, "fold@col2im", batch=batch.first_only, sign=NONNEGATIVE),
    *_rows(
        LINEAR,
        "conv1d conv2d@convolution conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
        batch=batch.convolved,
        channels=FIRST,
        synapses=True,
    ),
    *_rows(LINEAR, "linear", batch=batch.last_axes, channels=LAST, synapses=True),
    *_rows(LINEAR, "channel_affine", "elementwise", batch=batch.kept, channels=KEPT),
    *_rows(
        ADDITIVE,
        "add",
        "elementwise",
        augmented=("iadd", torch.add),
        values=(0, 1),
        alpha=1,
        spikes=UNSURE,
        channels=KEPT,
        sign=NONNEGATIVE,
    ),
    *_rows(
        ADDITIVE,
        "sub=subtract",
        "elementwise",
        augmented=("isub", torch.sub),
        values=(0, 1),
        alpha=1,
        spikes=UNSURE,
        channels=KEPT,
    ),
    *_rows(ADDITIVE, "rsub", "elementwise", values=(0, 1), alpha=0, spikes=UNSURE, channels=KEPT),
    *_rows(
        PRODUCT,
        "mul=multiply",
        "elementwise",
        augmented=("imul", torch.mul),
        values=(0, 1),
        spikes=SCALED,
        channels=KEPT,
        sign=NONNEGATIVE,
    ),
    *_rows(
        PRODUCT,
        "div=divide,true_divide,truediv",
        "elementwise",
        augmented=("itruediv", torch.div),
        spikes=UNSURE,
        channels=KEPT,
        sign=NONNEGATIVE,
    ),
    *_rows(
        PRODUCT,
        "matmul bmm mm mv@dot",
        values=(0, 1),
        batch=batch.matrices,
        synapses=True,
        sign=NONNEGATIVE,
    ),
    *_rows(Kind.FUSED, "addmm", product=torch.mm, synapses=True),
    *_rows(Kind.FUSED, "addmv", product=torch.mv, synapses=True),
    *_rows(Kind.FUSED, "baddbmm", product=torch.bmm, synapses=True),
    *_rows(Kind.FUSED, "addcmul", "elementwise", product=torch.mul, spikes=UNSURE),
    *_rows(Kind.FUSED, "addcdiv", "elementwise", product=torch.div),
    *_rows(Kind.FUSED, "lerp", "elementwise", product=torch.mul, spikes=UNSURE),
    *_rows(PRODUCT, "ldexp", "elementwise", channels=KEPT),
    *_rows(PRODUCT, "einsum", values=(1, 2), batch=batch.einsum, synapses=True, sign=NONNEGATIVE),
]

# ---- what must see running values -----------------------------------------------------------------
NONLINEARITIES = [
    *_rows(
        NONLINEAR,
        "softmax=_softmax@_safe_softmax softmin",
        "softmax",
        batch=batch.along(1),
        channels=KEPT,
        sign=POSITIVE,
    ),
    *_rows(NONLINEAR, "log_softmax@_log_softmax", "softmax", batch=batch.along(1), channels=KEPT),
    *_rows(
        NONLINEAR,
        "layer_norm@native_layer_norm rms_norm@_fused_rms_norm",
        "normalisation",
        batch=batch.last_axes,
        channels=LAST,
    ),
    *_rows(
        NONLINEAR,
        "group_norm@native_group_norm instance_norm local_response_norm",
        "normalisation",
        batch=batch.first_only,
        channels=FIRST,
    ),
    *_rows(
        Kind.NORM,
        "batch_norm@native_batch_norm,cudnn_batch_norm,miopen_batch_norm,"
        "_native_batch_norm_legit_no_training,_native_batch_norm_legit,_batch_norm_no_update,"
        "_batch_norm_with_update",
        "normalisation",
        batch=batch.first_only,
        channels=KEPT,
    ),
    *_rows(NONLINEAR, "normalize cosine_similarity", batch=batch.normalised),
    *_rows(
        NONLINEAR,
        "scaled_dot_product_attention@_scaled_dot_product_flash_attention_for_cpu,"
        "_scaled_dot_product_flash_attention,_scaled_dot_product_efficient_attention,"
        "_scaled_dot_product_cudnn_attention",
        values=(2,),
        batch=batch.matrices,
        synapses=True,
    ),
    *_rows(NONLINEAR, "cdist", batch=batch.matrices),
    *_rows(
        NONLINEAR,
        "max_pool1d max_pool2d max_pool3d",
        WINDOWS,
        batch=batch.first_only,
        spikes=PART,
        channels=KEPT,
        sign=NONNEGATIVE,
    ),
    *_rows(
        NONLINEAR,
        "max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices",
        WINDOWS,
        batch=batch.first_only,
        spikes=PART,
        channels=KEPT,
        sign=NONNEGATIVE,
        several=True,
    ),
    *_rows(
        NONLINEAR, "lp_pool1d lp_pool2d", batch=batch.first_only, channels=KEPT, sign=NONNEGATIVE
    ),
    *_rows(
        NONLINEAR,
        "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d",
        "pooling",
        batch=batch.first_only,
        spikes=PART,
        channels=KEPT,
        sign=NONNEGATIVE,
    ),
    *_rows(
        NONLINEAR, "amax amin", "reduction", batch=batch.reduced(), spikes=PART, sign=NONNEGATIVE
    ),
    *_rows(NONLINEAR, "max min", "reduction", batch=batch.extreme, spikes=PART, several=True),
    *_rows(NONLINEAR, "std var", "reduction", batch=batch.reduced(keepdim=None)),
    *_rows(
        NONLINEAR, "std_mean var_mean", "reduction", batch=batch.reduced(keepdim=None), several=True
    ),
    *_rows(NONLINEAR, "norm@linalg_vector_norm", "reduction", batch=batch.reduced(2, 3)),
    *_rows(NONLINEAR, "prod logsumexp argmax argmin", "reduction", batch=batch.reduced()),
    *_rows(NONLINEAR, "any all", "reduction", batch=batch.reduced()),
    *_rows(NONLINEAR, "median", "reduction", batch=batch.reduced(), several=True),
    *_rows(NONLINEAR, "count_nonzero", "reduction", batch=batch.reduced(keepdim=None)),
    *_rows(NONLINEAR, "cumprod", "reduction", batch=batch.along(1)),
    *_rows(NONLINEAR, "cummax cummin", "reduction", batch=batch.along(1), several=True),
    *_rows(NONLINEAR, "topk", "reduction", batch=batch.along(2, -1), spikes=PART, several=True),
    *_rows(NONLINEAR, "sort", "reduction", batch=batch.along(1, -1), several=True),
    *_rows(NONLINEAR, "argsort", "reduction", batch=batch.along(1, -1)),
    *_pointwise("sigmoid hardsigmoid", cost="activation", sign=POSITIVE),
    *_pointwise("clamp=clip clamp_min clamp_max hardtanh", PART, "activation"),
    *_pointwise("exp exp2 sqrt rsqrt square", sign=POSITIVE),
    *_pointwise("expm1 log log1p log2 log10 reciprocal sin cos erf atan logit"),
    *_pointwise("abs=absolute", PART, sign=POSITIVE),
    *_pointwise("pow", augmented=("ipow", torch.pow)),
    *_pointwise("maximum minimum", PART),
    *_pointwise("where masked_fill", PART),
    *_pointwise("round floor ceil trunc=fix", Spikes.WHOLE),
    *_pointwise("long=int,short,bool,byte", PART, None),
    *_pointwise("floordiv=floor_divide", Spikes.WHOLE, augmented=("ifloordiv", operator.floordiv)),
    *_pointwise("mod=remainder,fmod", UNSURE, augmented=("imod", operator.mod)),
    *_pointwise("frexp", several=True),
    *_pointwise("copysign"),
    *_pointwise("eq ne lt=less le gt=greater ge", BINARY, "comparison"),
    *_pointwise("sign=sgn isnan", BINARY, "comparison"),
    *_pointwise("heaviside", UNSURE, "comparison"),
    *_pointwise("isinf isfinite", BINARY, None),
    *_rows(NONLINEAR, "one_hot", spikes=BINARY, sign=POSITIVE, batch=batch.kept),
    *_pointwise("logical_and logical_or logical_xor logical_not", BINARY, "comparison"),
    *_pointwise("bitwise_and=and_", BINARY, "comparison", augmented=("iand", operator.and_)),
    *_pointwise("bitwise_or=or_", BINARY, "comparison", augmented=("ior", operator.or_)),
    *_pointwise("bitwise_xor=xor", BINARY, "comparison", augmented=("ixor", operator.xor)),
    *_pointwise("bitwise_not=invert,inv", BINARY, "comparison"),
    *_pointwise("lshift", augmented=("ilshift", operator.lshift)),
    *_pointwise("rshift", augmented=("irshift", operator.rshift)),
]

# ---- activations ----------------------------------------------------------------------------------
ACTIVATIONS = [
    *_rows(ACTIVATION, "relu relu6", "activation", spikes=PART, channels=KEPT, sign=POSITIVE),
    *_rows(
        SMOOTH,
        "leaky_relu prelu@_prelu_kernel rrelu@rrelu_with_noise gelu silu=swish mish elu celu selu "
        "hardswish tanh softsign logsigmoid@log_sigmoid_forward tanhshrink softshrink "
        "hardshrink threshold",
        "activation",
        channels=KEPT,
        remedy=SMOOTH_REMEDY,
    ),
    *_rows(SMOOTH, "softplus", "activation", channels=KEPT, sign=POSITIVE, remedy=SMOOTH_REMEDY),
    *_rows(SMOOTH, "glu", "activation", batch=batch.along(1, -1), remedy=SMOOTH_REMEDY),
]

# ---- numbers, shapes and tensors made of them ------------------------------------------------------
NUMBERS = [
    *_rows(
        CREATE,
        "zeros ones full empty arange linspace eye ones_like empty_like new_zeros new_ones new_full "
        "new_empty tensor=as_tensor,asarray,scalar_tensor new_tensor "
        "tril_indices triu_indices",
        spikes=NOTHING,
        batch=batch.kept,
    ),
    *_rows(
        CREATE,
        "zeros_like",
        augmented=("zero_", torch.zeros_like),
        spikes=NOTHING,
        batch=batch.kept,
    ),
    *_rows(
        CREATE,
        "full_like",
        augmented=("fill_", torch.full_like),
        spikes=NOTHING,
        batch=batch.kept,
    ),
    *_rows(
        SIZE,
        "size=dim,ndimension,numel,nelement,len,__len__ getattr "
        "number=sym_int,sym_float,sym_max,sym_min,sym_not,is_,is_not,not_,truth,slice,index,"
        "isinstance,is_floating_point,is_complex,is_contiguous,get_device,element_size,stride,Size "
        "assertion=_assert,_assert_async,_assert_scalar",
        batch=batch.kept,
    ),
    *_rows(
        REFUSED,
        "random=rand,randn,randint,randperm,rand_like,randn_like,randint_like,multinomial,"
        "normal,poisson,gumbel_softmax,uniform,exponential,log_normal,cauchy,geometric",
        remedy=RANDOM_REMEDY,
    ),
]

# ---- what only PyTorch's dispatcher names ----------------------------------------------------------
DISPATCHED = [
    *_rows(REFUSED, "bernoulli", spikes=BINARY, remedy=RANDOM_REMEDY),
    *_rows(
        REFUSED,
        "aten::nearest@upsample_nearest1d,upsample_nearest2d,upsample_nearest3d,"
        "_upsample_nearest_exact1d,_upsample_nearest_exact2d",
        "resampling",
        spikes=PART,
        remedy=UNKNOWN_REMEDY,
    ),
    *_rows(REFUSED, "aten::sampler@grid_sampler_2d", "resampling", remedy=UNKNOWN_REMEDY),
    *_rows(
        REFUSED,
        "aten::moves@as_strided,copy,fill,zero,index_copy,index_put,masked_scatter,scatter,"
        "select_scatter,slice_scatter,unsafe_index",
        spikes=PART,
        remedy=UNKNOWN_REMEDY,
    ),
    *_rows(
        REFUSED,
        "aten::bookkeeping@_has_compatible_shallow_copy_type,_local_scalar_dense,_pin_memory,"
        "_nested_tensor_from_mask,cos_,embedding,empty_strided,new_empty_strided,equal,fft_fftfreq,"
        "is_pinned,is_same_size,item,lift_fresh_copy,narrow_copy,nonzero,record_stream,"
        "resize,set,set_,sym_size",
        remedy=UNKNOWN_REMEDY,
    ),
]

ROWS = [*MOVES, *SUMS, *NONLINEARITIES, *ACTIVATIONS, *NUMBERS, *DISPATCHED]
