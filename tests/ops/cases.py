"""One call or more for every row of the table, from which its facts are proven.

Operands are written as letters; `tensors` gives them values: X and Y [3, 4, 6, 8] (batch first),
P and Q [3, 4, 6], R [3, 6, 5], M [3, 6]; k, w, v are weights without a batch axis; i is an index.
"""

import operator

import torch
import torch.nn.functional as F

SHAPES = {
    "X": (3, 4, 6, 8),
    "Y": (3, 4, 6, 8),
    "P": (3, 4, 6),
    "Q": (3, 4, 6),
    "R": (3, 6, 5),
    "M": (3, 6),
    "k": (5, 4, 3, 3),
    "w": (5, 6),
    "v": (6,),
    "u": (6, 5),
    "a": (4, 6, 8),
}
BATCHED = set("XYPQRM")


def call(*args, of=None, **kwargs):
    """A call of the row's own function (or of `of`)."""
    return args, kwargs, of


def pointwise(*names):
    return {name: [call("X")] for name in names}


def compared(*names):
    return {name: [call("X", "Y"), call("X", 0.5)] for name in names}


CASES = {
    # moves
    "transpose": [call("X", 1, 2), call("X", -1, 1), call("X", 0, 3)],
    "movedim": [call("X", 1, 3), call("X", -1, 1), call("X", 0, 2), call("X", (1, 2), (2, 1))],
    "permute": [call("X", (0, 2, 3, 1)), call("X", 2, 0, 3, 1), call("X", (0, -1, 1, 2))],
    "t": [call("M")],
    "squeeze": [call("X1", 1), call("X1", -1)],
    "unsqueeze": [call("X", 1), call("X", -1), call("X", 0), call("X", 4)],
    "view": [call("X", (3, 4, -1)), call("X", 12, 6, 8), call("X", (-1, 8))],
    "view_as": [call("X", "Y")],
    "reshape": [call("X", (3, 4, -1)), call("X", 3, 8, 24), call("X", (-1, 6, 8))],
    "reshape_as": [call("X", "Y")],
    "flatten": [call("X", 1), call("X", 2, 3), call("X", -2, -1), call("X", 0, 1)],
    "unflatten": [call("X", 1, (2, 2)), call("X", -1, (4, -1)), call("X", 0, (-1, 1))],
    "detach": [call("X")],
    "contiguous": [call("X")],
    "to": [call("X", torch.float64), call("X", "Y")],
    "half": [],
    "identity": [],
    "dropout": [call("X", 0.5, False)],
    "drop_path": [],
    "expand": [call("X1", 3, 4, 6, 8), call("X1", -1, 4, -1, 8), call("X", 2, 3, 4, 6, 8)],
    "broadcast_to": [call("X1", (3, 4, 6, 8))],
    "expand_as": [call("X1", "Y")],
    "chunk": [call("X", 2, 1), call("X", 2, -1), call("X", 3)],
    "split": [call("X", 2, 1), call("X", 3, -1), call("X", (1, 3), 1), call("X", 1)],
    "narrow": [call("X", 1, 1, 2), call("X", -1, 0, 3), call("X", 0, 0, 2)],
    "unbind": [call("X", 1), call("X", -1), call("X")],
    "select": [call("X", 1, 0), call("X", -1, 2), call("X", 0, 1)],
    "getitem": [
        call("X", (slice(None), 1)),
        call("X", (Ellipsis, 1)),
        call("X", (slice(None), None, slice(1, 3))),
        call("X", (slice(None), slice(None), [0, 2])),
        call("X", 0),
        call("X", (Ellipsis, slice(1, None), slice(None))),
        call("X", (1, Ellipsis)),
    ],
    "diagonal": [call("X", 0, 2, 3), call("X", 1, 1, 2), call("X")],
    "unfold": [call("X", 2, 3, 2), call("X", -1, 2, 1)],
    "clone": [call("X")],
    "flip": [call("X", (2,)), call("X", (2, 3)), call("X", (0,))],
    "roll": [call("X", 1, 2), call("X", (1, 2), (2, 3)), call("X", 1)],
    "rot90": [call("X", 1, (2, 3)), call("X", 1, (0, 1))],
    "cat": [call(["X", "Y"], 1), call(["X", "Y"], -1), call(["X", "Y"])],
    "hstack": [call(["X", "Y"])],
    "vstack": [call(["X", "Y"])],
    "stack": [call(["X", "Y"], 1), call(["X", "Y"]), call(["X", "Y"], -1)],
    "meshgrid": [],
    "repeat": [call("X", 1, 2, 1, 1), call("X", 1, 1, 1, 1), call("X", 2, 1, 1, 1)],
    "repeat_interleave": [call("X", 2, 1), call("X", 2, 0), call("X", 2)],
    "index_select": [call("X", 1, "i"), call("X", 0, "i")],
    "gather": [call("X", 1, "I"), call("X", 0, "I")],
    "take_along_dim": [call("X", "J", 1), call("X", "I0", 0)],
    "tril": [call("X"), call("X", 1)],
    "triu": [call("X")],
    "pad": [call("X", (1, 1)), call("X", (1, 2, 2, 1)), call("X", (1, 1, 1, 1), "reflect")],
    "pixel_shuffle": [call("X", 2)],
    "pixel_unshuffle": [call("X", 2)],
    "channel_shuffle": [call("X", 2)],
    "im2col": [call("X", 3, of=F.unfold)],
    "set_part": [call("X", (slice(None), 1), "R2"), call("X", Ellipsis, "Y")],
    # sums and products
    "mean": [call("X", (2, 3)), call("X", 1, True), call("X", -1), call("X"), call("X", (0,))],
    "sum": [call("X", (2, 3)), call("X", 1, True), call("X", -1), call("X")],
    "cumsum": [call("X", 1), call("X", -1), call("X", 0)],
    "neg": [call("X")],
    "avg_pool1d": [call("P", 2)],
    "avg_pool2d": [call("X", 2), call("X", (3, 2))],
    "avg_pool3d": [call("X5", 2)],
    "adaptive_avg_pool1d": [call("P", 2)],
    "adaptive_avg_pool2d": [call("X", 2), call("X", (3, 4))],
    "adaptive_avg_pool3d": [call("X5", (1, 2, 2))],
    "interpolate": [call("X", scale_factor=2), call("X", (9, 4), mode="bilinear")],
    "fold": [call("C", (4, 4), 3)],
    "conv1d": [call("P", "k1")],
    "conv2d": [call("X", "k"), call("X", "k", None, 2, 1)],
    "conv3d": [call("X5", "k3")],
    "conv_transpose1d": [call("P", "t1")],
    "conv_transpose2d": [call("X", "t2")],
    "conv_transpose3d": [call("X5", "t3")],
    "linear": [call("P", "w"), call("M", "w")],
    "channel_affine": [],
    "add": [call("X", "Y"), call("X", 2.0), call("X", "a")],
    "sub": [call("X", "Y"), call("X", "a")],
    "rsub": [call("X", "Y")],
    "mul": [call("X", "Y"), call("X", 2.0), call("X", "a1")],
    "div": [call("X", "Y"), call("X", 2.0)],
    "matmul": [call("P", "R"), call("P", "u"), call("w", "R"), call("M", "u"), call("X", "Z")],
    "bmm": [call("P", "R")],
    "mm": [call("M", "u")],
    "mv": [call("M", "v")],
    "einsum": [
        call("bnd,bdm->bnm", "P", "R"),
        call("bnd,bmd->bnm", "P", "Q"),
        call("bnd,dm->bnm", "P", "u"),
        call("bnd,bmd->nm", "P", "Q"),
    ],
    "addmm": [call("v5", "M", "u")],
    "addmv": [call("v3", "M", "v")],
    "baddbmm": [call("PR", "P", "R")],
    "addcmul": [call("X", "X", "Y")],
    "addcdiv": [call("X", "X", "Y")],
    "lerp": [call("X", "Y", 0.3)],
    # running values
    "softmax": [call("X", -1), call("X", 1), call("X", 0)],
    "log_softmax": [call("X", -1)],
    "softmin": [call("X", -1, of=F.softmin)],
    "layer_norm": [call("X", (8,)), call("P", (4, 6))],
    "rms_norm": [call("X", (8,))],
    "group_norm": [call("X", 2)],
    "instance_norm": [call("X", of=F.instance_norm)],
    "local_response_norm": [call("X", 3)],
    "batch_norm": [],
    "normalize": [call("X", 2.0, 1), call("X", 2.0, -1), call("X")],
    "cosine_similarity": [call("X", "Y", 1), call("X", "Y", -1)],
    "scaled_dot_product_attention": [call("P", "Q", "Q")],
    "cdist": [call("P", "Q")],
    "max_pool1d": [call("P", 2)],
    "max_pool1d_with_indices": [call("P", 2)],
    "max_pool2d_with_indices": [call("X", 2)],
    "max_pool3d_with_indices": [call("X5", 2)],
    "max_pool2d": [call("X", 2)],
    "max_pool3d": [call("X5", 2)],
    "lp_pool1d": [call("P", 2.0, 2)],
    "lp_pool2d": [call("X", 2.0, 2)],
    "adaptive_max_pool1d": [call("P", 2)],
    "adaptive_max_pool2d": [call("X", 2)],
    "adaptive_max_pool3d": [call("X5", (1, 2, 2))],
    "amax": [call("X", (2, 3)), call("X", 1, True), call("X", 0)],
    "amin": [call("X", (2, 3))],
    "max": [call("X", 1), call("X", "Y"), call("X"), call("X", -1, True)],
    "min": [call("X", 1), call("X", "Y"), call("X")],
    "std": [call("X", (2, 3)), call("X", 1), call("X", -1, keepdim=True)],
    "var": [call("X", (2, 3)), call("X", 1)],
    "std_mean": [call("X", (2, 3))],
    "var_mean": [call("X", 1)],
    "norm": [call("X", 2, 1), call("X", 2, (2, 3), True), call("X")],
    "prod": [call("X", 1), call("X", -1, True)],
    "logsumexp": [call("X", 1), call("X", (2, 3))],
    "argmax": [call("X", 1), call("X")],
    "argmin": [call("X", -1)],
    "any": [call("X", 1)],
    "all": [call("X", 1)],
    "median": [call("X", 1), call("X")],
    "count_nonzero": [call("X", 1)],
    "cumprod": [call("X", 1), call("X", 0)],
    "cummax": [call("X", 1)],
    "cummin": [call("X", 1)],
    "topk": [call("X", 2), call("X", 2, 1), call("X", 2, 0)],
    "sort": [call("X"), call("X", 1)],
    "argsort": [call("X"), call("X", 1)],
    "one_hot": [call("N", 9)],
    **pointwise(
        *"sigmoid hardsigmoid exp exp2 expm1 log log1p log2 log10 sqrt rsqrt reciprocal sin cos erf "
        "atan square logit abs round floor ceil trunc isnan isinf isfinite logical_not sign "
        "relu relu6 gelu silu mish elu celu selu leaky_relu hardswish tanh softplus softsign logsigmoid "
        "tanhshrink softshrink hardshrink frexp long".split()
    ),
    "clamp": [call("X", 0, 1), call("X", -0.5)],
    "clamp_min": [call("X", 0)],
    "clamp_max": [call("X", 1)],
    "hardtanh": [call("X", 0.0, 2.0)],
    "pow": [call("X", 2), call("X", 0.5)],
    "maximum": [call("X", "Y")],
    "minimum": [call("X", "Y")],
    "where": [call("B", "X", "Y", of=torch.where), call("B", "X", 0.0, of=torch.where)],
    "masked_fill": [call("X", "B", 0.0), call("X", "B", 0.7)],
    "floordiv": [call("X", "Y", of=operator.floordiv)],
    "mod": [call("X", 0.7, of=operator.mod)],
    "ldexp": [call("X", "Y")],
    "copysign": [call("X", "Y")],
    **compared(*"eq ne lt le gt ge".split()),
    "heaviside": [call("X", "Y")],
    "logical_and": [call("X", "Y")],
    "logical_or": [call("X", "Y")],
    "logical_xor": [call("X", "Y")],
    "bitwise_and": [call("B", "D")],
    "bitwise_or": [call("B", "D")],
    "bitwise_xor": [call("B", "D")],
    "bitwise_not": [call("B")],
    "lshift": [call("N", 1, of=operator.lshift)],
    "rshift": [call("N", 1, of=operator.rshift)],
    "prelu": [call("X", "s")],
    "rrelu": [call("X")],
    "threshold": [call("X", 0.1, 0.0)],
    "glu": [call("X", 1), call("X")],
}
SHAPES |= {
    "X1": (3, 1, 6, 1),
    "X5": (3, 4, 4, 6, 8),
    "R2": (3, 6, 8),
    "C": (3, 18, 4),
    "Z": (3, 4, 8, 5),
    "k1": (5, 4, 3),
    "k3": (5, 4, 2, 3, 3),
    "t1": (4, 5, 3),
    "t2": (4, 5, 3, 3),
    "t3": (4, 5, 2, 3, 3),
    "a1": (4, 1, 1),
    "v5": (5,),
    "v3": (3,),
    "PR": (3, 4, 5),
    "s": (1,),
}
BATCHED |= {"X1", "X5", "R2", "C", "Z", "PR", "B", "D", "N", "I", "J", "I0"}


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """A value for every letter, float64."""
    g = torch.Generator().manual_seed(seed)
    made = {
        name: torch.randn(shape, generator=g, dtype=torch.float64) for name, shape in SHAPES.items()
    }
    made["i"] = torch.tensor([1, 0])
    made["I"] = torch.randint(0, 3, (3, 2, 6, 8), generator=g)
    made["J"] = torch.randint(0, 3, (3, 2, 6, 8), generator=g)
    made["I0"] = torch.randint(0, 3, (2, 4, 6, 8), generator=g)
    made["B"] = torch.rand((3, 4, 6, 8), generator=g) > 0.5
    made["D"] = torch.rand((3, 4, 6, 8), generator=g) > 0.5
    made["N"] = torch.randint(0, 9, (3, 4, 6, 8), generator=g)
    return made


def filled(arguments, values: dict):
    """The arguments with letters replaced by tensors."""
    if isinstance(arguments, str):
        return values.get(arguments, arguments)
    if isinstance(arguments, (list, tuple)):
        return type(arguments)(filled(argument, values) for argument in arguments)
    if isinstance(arguments, dict):
        return {key: filled(value, values) for key, value in arguments.items()}
    return arguments


def letters(arguments) -> list[str]:
    """The operands of a call, in order."""
    if isinstance(arguments, str):
        return (
            [arguments]
            if arguments in SHAPES or arguments in ("i", "I", "J", "I0", "B", "D", "N")
            else []
        )
    if isinstance(arguments, (list, tuple)):
        return [name for argument in arguments for name in letters(argument)]
    return []


def function_of(name: str, method_first: bool = True):
    """A function or method that a spelling names, or None."""
    from spikeswap.graph.parts import set_part

    homes = [torch, F, operator] if name != "getitem" else [operator]
    homes = [torch.Tensor, *homes] if method_first else homes
    for home in homes:
        found = getattr(home, name, None)
        if callable(found) and not isinstance(found, type):
            return found
    return {"set_part": set_part, "mod": operator.mod}.get(name)
