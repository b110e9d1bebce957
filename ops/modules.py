"""The table of operations: classes of modules, each under the name of what it computes."""

from torch import nn

from ..neurons import (
    QCFS,
    Accumulate,
    ChannelAffine,
    ClippedReLU,
    Offset,
    PlannedSite,
    Present,
    SeededMask,
    SpikeMask,
    SpikingNeuron,
)
from . import batch
from .facts import Channels, Kind, Operation, Sign, Spikes

RECURRENT_REMEDY = "recurrent layers have no rate-coded form; use convolutions or attention"
ATTENTION_REMEDY = "write it with nn.Linear, softmax and matmul, which are converted"

_KEPT = {"batch": batch.first_only, "channels": Channels.KEPT}
# Rows that only modules spell.
MODULE_ROWS = [
    Operation("site", Kind.SITE, spikes=Spikes.SAME, **_KEPT),
    Operation("mask", Kind.MASK, spikes=Spikes.PART, sign=Sign.KEPT, **_KEPT),
    Operation("accumulate", Kind.TIMED, **_KEPT),
    Operation("present", Kind.TIMED, **_KEPT),
    Operation("offset", Kind.TIMED, **_KEPT),
    Operation("constant_pad", Kind.NONLINEAR, **_KEPT),
    Operation("recurrent", Kind.REFUSED, remedy=RECURRENT_REMEDY),
    Operation("attention", Kind.REFUSED, remedy=ATTENTION_REMEDY),
]

# Classes, most specific first: a subclass counts as its base unless it is listed itself. The words
# after the name are attributes that the function of this name takes as arguments.
MODULES: list[tuple[str, tuple[type, ...]]] = [
    ("site", (QCFS, ClippedReLU, SpikingNeuron, PlannedSite)),
    ("mask", (SpikeMask, SeededMask)),
    ("accumulate", (Accumulate,)),
    ("present", (Present,)),
    ("offset", (Offset,)),
    ("channel_affine", (ChannelAffine,)),
    ("relu6", (nn.ReLU6,)),
    ("relu", (nn.ReLU,)),
    ("hardtanh", (nn.Hardtanh,)),
    ("leaky_relu", (nn.LeakyReLU,)),
    ("prelu", (nn.PReLU,)),
    ("rrelu", (nn.RReLU,)),
    ("gelu", (nn.GELU,)),
    ("silu", (nn.SiLU,)),
    ("mish", (nn.Mish,)),
    ("elu", (nn.ELU,)),
    ("celu", (nn.CELU,)),
    ("selu", (nn.SELU,)),
    ("hardswish", (nn.Hardswish,)),
    ("tanh", (nn.Tanh,)),
    ("softplus", (nn.Softplus,)),
    ("softsign", (nn.Softsign,)),
    ("logsigmoid", (nn.LogSigmoid,)),
    ("tanhshrink", (nn.Tanhshrink,)),
    ("softshrink", (nn.Softshrink,)),
    ("hardshrink", (nn.Hardshrink,)),
    ("threshold", (nn.Threshold,)),
    ("glu dim", (nn.GLU,)),
    ("sigmoid", (nn.Sigmoid,)),
    ("hardsigmoid", (nn.Hardsigmoid,)),
    ("recurrent", (nn.RNNBase, nn.RNNCellBase)),
    (
        "attention",
        (
            nn.MultiheadAttention,
            nn.Transformer,
            nn.TransformerEncoder,
            nn.TransformerEncoderLayer,
            nn.TransformerDecoder,
            nn.TransformerDecoderLayer,
        ),
    ),
    ("batch_norm", (nn.modules.batchnorm._BatchNorm,)),
    ("layer_norm normalized_shape", (nn.LayerNorm, nn.RMSNorm)),
    ("group_norm", (nn.GroupNorm,)),
    ("instance_norm", (nn.modules.instancenorm._InstanceNorm,)),
    ("local_response_norm", (nn.LocalResponseNorm,)),
    ("conv1d", (nn.Conv1d,)),
    ("conv2d", (nn.Conv2d,)),
    ("conv3d", (nn.Conv3d,)),
    ("conv_transpose1d", (nn.ConvTranspose1d,)),
    ("conv_transpose2d", (nn.ConvTranspose2d,)),
    ("conv_transpose3d", (nn.ConvTranspose3d,)),
    ("linear", (nn.Linear,)),
    ("identity", (nn.Identity,)),
    ("flatten start_dim end_dim", (nn.Flatten,)),
    ("unflatten dim unflattened_size", (nn.Unflatten,)),
    ("dropout", (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)),
    ("drop_path", (nn.AlphaDropout, nn.FeatureAlphaDropout)),
    ("avg_pool1d", (nn.AvgPool1d,)),
    ("avg_pool2d", (nn.AvgPool2d,)),
    ("avg_pool3d", (nn.AvgPool3d,)),
    ("adaptive_avg_pool1d", (nn.AdaptiveAvgPool1d,)),
    ("adaptive_avg_pool2d", (nn.AdaptiveAvgPool2d,)),
    ("adaptive_avg_pool3d", (nn.AdaptiveAvgPool3d,)),
    ("max_pool1d", (nn.MaxPool1d,)),
    ("max_pool2d", (nn.MaxPool2d,)),
    ("max_pool3d", (nn.MaxPool3d,)),
    ("adaptive_max_pool1d", (nn.AdaptiveMaxPool1d,)),
    ("adaptive_max_pool2d", (nn.AdaptiveMaxPool2d,)),
    ("adaptive_max_pool3d", (nn.AdaptiveMaxPool3d,)),
    ("lp_pool1d", (nn.LPPool1d,)),
    ("lp_pool2d", (nn.LPPool2d,)),
    ("interpolate", (nn.Upsample,)),
    (
        "pad",
        (
            nn.ZeroPad1d,
            nn.ZeroPad2d,
            nn.ZeroPad3d,
            nn.modules.padding._ReflectionPadNd,
            nn.modules.padding._ReplicationPadNd,
            nn.modules.padding._CircularPadNd,
        ),
    ),
    ("constant_pad", (nn.modules.padding._ConstantPadNd,)),
    ("pixel_shuffle", (nn.PixelShuffle,)),
    ("pixel_unshuffle", (nn.PixelUnshuffle,)),
    ("channel_shuffle", (nn.ChannelShuffle,)),
    ("fold", (nn.Fold,)),
    ("im2col", (nn.Unfold,)),
    ("softmax dim", (nn.Softmax,)),
    ("softmax", (nn.Softmax2d,)),
    ("log_softmax dim", (nn.LogSoftmax,)),
    ("softmin dim", (nn.Softmin,)),
]

# Classes of other libraries, by name: they hide control flow or state and are known as a whole.
FOREIGN = {
    "DropPath": "drop_path",
    "StochasticDepth": "drop_path",
    "DropBlock2d": "drop_path",
    "LayerNorm2d": "layer_norm",
    "LayerNorm": "layer_norm",
    "RMSNorm": "layer_norm",
    "GroupNorm1": "group_norm",
    "BatchNormAct2d": "batch_norm",
    "TokenBatchNorm": "batch_norm",
}
