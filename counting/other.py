"""Operations that are no synaptic ones, by kind: what each costs in elementary operations.

The table maps aten names (without overload and trailing underscore) to a kind and a size. Moving
data costs nothing here; what is in no table is reported as uncounted.
"""

import math
from collections.abc import Callable

from torch import Tensor


def _output(args, out: Tensor) -> int:
    """One operation for each element of the result."""
    return out.numel()


def _input(args, out: Tensor) -> int:
    """One operation for each element that is read."""
    return args[0].numel()


def _window(args, out: Tensor) -> int:
    """Output elements times the elements of the window."""
    kernel = args[1]
    dims = out.dim() - 2 if out.dim() > 2 else 1
    size = [kernel] * dims if isinstance(kernel, int) else list(kernel)
    size = size * dims if len(size) == 1 else size
    return out.numel() * math.prod(size)


Size = Callable[[tuple, Tensor], int]


def _rows(kind: str, size: Size, names: str) -> dict[str, tuple[str, Size]]:
    return dict.fromkeys(names.split(), (kind, size))


OTHER: dict[str, tuple[str, Size]] = {
    **_rows(
        "normalisation",
        _output,
        """native_batch_norm batch_norm cudnn_batch_norm
        _native_batch_norm_legit_no_training _native_batch_norm_legit native_layer_norm
        native_group_norm group_norm layer_norm rms_norm _fused_rms_norm miopen_batch_norm
        _batch_norm_no_update _batch_norm_with_update instance_norm""",
    ),
    **_rows("softmax", _output, "_softmax softmax _log_softmax log_softmax _safe_softmax"),
    **_rows(
        "pooling",
        _window,
        """max_pool2d_with_indices avg_pool2d avg_pool1d avg_pool3d
        max_pool3d_with_indices max_pool1d max_pool2d max_pool3d""",
    ),
    **_rows(
        "pooling",
        _input,
        """_adaptive_avg_pool2d adaptive_avg_pool2d mean adaptive_max_pool2d
        adaptive_avg_pool1d adaptive_max_pool1d _adaptive_avg_pool3d adaptive_max_pool3d""",
    ),
    **_rows(
        "activation",
        _output,
        """relu relu6 gelu silu mish elu celu selu leaky_relu hardtanh
        hardswish hardsigmoid sigmoid tanh softplus threshold prelu _prelu_kernel
        log_sigmoid_forward clamp clamp_min clamp_max rrelu_with_noise""",
    ),
    **_rows(
        "elementwise",
        _output,
        """add sub rsub mul div neg addcmul addcdiv lerp pow sqrt rsqrt
        exp log abs reciprocal square maximum minimum where round floor ceil trunc sin cos erf
        remainder fmod floor_divide log2 exp2 log1p expm1 logit masked_fill frexp ldexp sgn atan
        copysign""",
    ),
    **_rows(
        "comparison",
        _output,
        """ge gt le lt eq ne heaviside sign logical_and logical_or
        logical_not logical_xor bitwise_and bitwise_or bitwise_not isnan""",
    ),
    **_rows(
        "reduction",
        _input,
        """sum amax amin max min cumsum cumprod prod argmax argmin topk var
        std norm linalg_vector_norm logsumexp any all var_mean sort count_nonzero std_mean""",
    ),
    **_rows(
        "resampling",
        _output,
        """upsample_nearest2d upsample_bilinear2d upsample_bicubic2d
        upsample_nearest1d _upsample_nearest_exact2d _upsample_bilinear2d_aa grid_sampler_2d
        upsample_linear1d _upsample_bicubic2d_aa""",
    ),
}

FREE = frozenset(
    """empty empty_like empty_strided new_empty new_empty_strided rand rand_like randn
    randn_like randint randperm bernoulli uniform normal random _local_scalar_dense item
    embedding lift_fresh_copy set_ resize _assert_async sym_size dropout native_dropout tril triu
    is_same_size equal set nonzero meshgrid one_hot narrow_copy _pin_memory is_pinned
    _has_compatible_shallow_copy_type cos_ isinf isfinite zero fill exponential fft_fftfreq
    record_stream _nested_tensor_from_mask""".split()
)
