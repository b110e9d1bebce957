"""Lines of random networks: arguments for every row of the table, and lines that belong together.

A maker takes the generator `d` and the name of a value, and gives the arguments of a call as texts. It
need not fit: what fails on an example is drawn again.
"""

import math


class Misfit(Exception):
    """A maker that has nothing to offer for this value."""


def fits(condition) -> None:
    if not condition:
        raise Misfit


def alone(d, x):
    return [x]


def with_axis(d, x):
    return [x, d.axis(x)]


def with_axes(d, x):
    return [x, d.choice((d.axis(x), d.axes(x)))] + d.choice(([], ["keepdim=True"]))


def with_two_axes(d, x):
    return [x, d.axis(x), d.axis(x)]


def with_other(d, x):
    return [x, d.like(x)]


def with_tensor(d, x):
    return [x, d.same_shape(x)]


def with_operand(d, x):
    return [x, d.choice((d.like(x), d.number()))]


def _order(d, x):
    rest = list(range(1, d.rank(x)))
    d.random.shuffle(rest)
    order = [0, *(d.choice((i, i - d.rank(x))) for i in rest)]
    return [x, f"({', '.join(map(str, order))})"]


def _shape(d, x):
    """The same elements: two axes joined, or one split; the batch written in several ways."""
    shape = list(d.shape(x)[1:])
    fits(shape)
    at = d.random.randrange(len(shape))
    if d.random.random() < 0.5 and at + 1 < len(shape):
        shape[at : at + 2] = [shape[at] * shape[at + 1]]
    else:
        divisors = [k for k in range(1, shape[at] + 1) if shape[at] % k == 0]
        part = d.choice(divisors)
        shape[at : at + 1] = [part, shape[at] // part]
    texts = [str(n) for n in shape]
    batch = d.choice((f"{x}.shape[0]", "-1", f"{x}.size(0)"))
    if batch != "-1" and d.random.random() < 0.5:
        texts[d.random.randrange(len(texts))] = "-1"
    return [x, f"({', '.join([batch, *texts])})"]


def _expanded(d, x):
    n = d.rank(x)
    wanted = [str(d.choice((2, 3))) if s == 1 and i else "-1" for i, s in enumerate(d.shape(x))]
    fits(n > 1 and wanted != ["-1"] * n)
    return [x, f"({', '.join(wanted)})"]


def _index(d, x):
    """What stands in x[...]."""
    entries = [":"]
    for size in d.shape(x)[1:]:
        forms = [":", "...", "None", "0", "-1", "1:", ":-1", "::2", f"{size // 2}:"]
        entries.append(d.choice(forms) if d.random.random() < 0.5 else ":")
    while entries.count("...") > 1:
        entries.remove("...")
    return ", ".join(entries)


def _pairs(d, x, low=0):
    count = 2 * d.choice((1, 2))
    return f"({', '.join(str(d.random.randint(low, 2)) for _ in range(count))})"


def _pad(d, x):
    modes = (
        [],
        [f"value={d.number()}"],
        ["mode='replicate'"],
        ["mode='reflect'"],
        ["mode='circular'"],
    )
    return [x, _pairs(d, x, d.choice((0, 0, -1))), *d.choice(modes)]


def _matrix(d, x):
    """x @ y of matching size: another value, or a parameter."""
    shape = d.shape(x)
    others = [
        n for n in d.values(rank=len(shape)) if d.shape(n)[:-2] == shape[:-2] and len(shape) > 2
    ]
    right = [n for n in others if d.shape(n)[-2] == shape[-1]]
    turned = [f"{n}.transpose(-1, -2)" for n in others if d.shape(n)[-1] == shape[-1]]
    weight = d.parameter((shape[-1], d.choice((2, 3, 5))))
    return [x, d.choice([*right, *turned, *turned, weight])]


def _square(d, x):
    fits(d.rank(x) == 3)
    return [x, d.choice((f"{x}.transpose(1, 2)", *_matrix(d, x)[1:]))]


def _einsum(d, x):
    fits(d.rank(x) in (3, 4))
    letters = "bhnd" if d.rank(x) == 4 else "bnd"
    same = d.same_shape(x)
    m = letters.replace("n", "m")
    forms = [
        f"'{letters},{m}->{letters.replace('d', 'm')}', {x}, {same}",
        f"'{letters},{letters}->{letters[:-1]}', {x}, {same}",
        f"'{letters},de->{letters[:-1]}e', {x}, {d.parameter((d.shape(x)[-1], 3))}",
        f"'...d,...d->...', {x}, {same}",
    ]
    return [d.choice(forms)]


def _convolution(dims, transposed=False):
    def make(d, x):
        fits(d.rank(x) == dims + 2)
        channels, k = d.shape(x)[1], d.choice((1, 2, 3))
        shape = (channels, 3) if transposed else (3, channels)
        weight = d.parameter((*shape, *[k] * dims))
        if dims == 2 and not transposed and d.random.random() < 0.3:  # standardised
            weight = f"({weight} - {weight}.mean((1, 2, 3), keepdim=True))"
        more = [d.parameter((3,)) if d.random.random() < 0.6 else "None"]
        return [
            x,
            weight,
            *more,
            *([] if transposed else d.choice(([], ["padding=1"], ["stride=2"]))),
        ]

    return make


def _pool(dims):
    def make(d, x):
        fits(d.rank(x) == dims + 2)
        return [x, *d.choice((["2"], ["3", "1", "1"], ["2", "1"]))]

    return make


def _adaptive(dims):
    def make(d, x):
        fits(d.rank(x) == dims + 2)
        return [x, d.choice(("1", "2"))]

    return make


def _of_rank(*ranks, then=alone):
    def make(d, x):
        fits(d.rank(x) in ranks)
        return then(d, x)

    return make


def _gather(d, x):
    index = [n for n in d.values(kind="int", rank=d.rank(x)) if d.shape(n)[0] == d.shape(x)[0]]
    axis = d.axis(x)
    size = d.shape(x)[int(axis)]
    if not index:  # made of the image
        n = math.prod(d.shape(x)[1:])
        fits(n <= 108)
        flat = f"x.flatten(1)[:, :{n}].reshape({x}.shape)"
        index = [f"{flat}.argsort({axis})", f"({flat} > 0).long()"]
    return [x, axis, f"{d.choice(index)} % {size}"]


def _condition(d, x):
    masks = [n for n in d.values(kind="bool") if d.shape(n) == d.shape(x)]
    n = math.prod(d.shape(x)[1:])
    if n <= 108:
        masks.append(f"(x.flatten(1)[:, :{n}].reshape({x}.shape) > 0)")
    masks.append(f"({d.parameter(d.shape(x)[1:])} > 0)")
    return d.choice(masks)


def _batch_norm(d, x):
    return f"nn.BatchNorm{max(1, d.rank(x) - 2)}d({d.shape(x)[1]})"


def _attention(d, x):
    fits(d.rank(x) in (3, 4))
    return [x, d.same_shape(x), d.same_shape(x)]


ARGUMENTS = {
    **dict.fromkeys("transpose movedim".split(), with_two_axes),
    "permute": _order,
    "t": alone,
    "squeeze": with_axis,
    "unsqueeze": lambda d, x: [x, str(d.random.randint(1, d.rank(x)))],
    **dict.fromkeys("view reshape".split(), _shape),
    **dict.fromkeys(
        "view_as reshape_as".split(), lambda d, x: [x, d.choice(d.values(count=d.count_of(x)))]
    ),
    "flatten": lambda d, x: [x, *d.choice((["1"], ["2"], ["1", "2"], ["-2"]))],
    "unflatten": lambda d, x: [x, d.axis(x), d.choice(("(2, -1)", "(-1, 1)", "(-1, 2)"))],
    **dict.fromkeys("detach contiguous clone".split(), alone),
    "to": lambda d, x: [x, d.choice(("torch.float64", d.value()))],
    "dropout": lambda d, x: [x, "0.5", "self.training"],
    **dict.fromkeys("expand broadcast_to".split(), _expanded),
    "expand_as": lambda d, x: [x, d.value()],
    "chunk": lambda d, x: [x, "2", d.axis(x)],
    "split": lambda d, x: [x, d.choice(("1", "2", "(1, 3)")), d.axis(x)],
    "narrow": lambda d, x: [x, d.axis(x), "0", "2"],
    "unbind": with_axis,
    "select": lambda d, x: [x, d.axis(x), d.choice(("0", "1", "-1"))],
    "getitem": lambda d, x: [x, f"({_index(d, x).replace(':', 'slice(None)')},)"],
    "diagonal": lambda d, x: [x, d.choice(("0", "1")), d.axis(x), d.axis(x)],
    "unfold": lambda d, x: [x, d.axis(x), "2", d.choice(("1", "2"))],
    "flip": lambda d, x: [x, d.axes(x)],
    "roll": lambda d, x: [x, d.choice(("1", "2")), d.axis(x)],
    "rot90": lambda d, x: [x, "1", f"({d.axis(x)}, {d.axis(x)})"],
    **dict.fromkeys("cat stack".split(), lambda d, x: [f"[{x}, {d.same_shape(x)}]", d.axis(x)]),
    "hstack": lambda d, x: [f"[{x}, {d.same_shape(x)}]"],
    "repeat": lambda d, x: [x, "1", *(d.choice("112") for _ in d.shape(x)[1:])],
    "repeat_interleave": lambda d, x: [x, "2", d.axis(x)],
    "index_select": lambda d, x: [x, d.axis(x), d.choice(("self.index", "torch.tensor([1, 0])"))],
    "gather": _gather,
    "take_along_dim": lambda d, x: [(a := _gather(d, x))[0], a[2], a[1]],
    **dict.fromkeys("tril triu".split(), _of_rank(3, 4, 5)),
    "pad": _pad,
    **dict.fromkeys("pixel_shuffle pixel_unshuffle channel_shuffle".split(), lambda d, x: [x, "2"]),
    "im2col": _of_rank(4, then=lambda d, x: [x, "2"]),
    **dict.fromkeys("mean sum amax amin std var logsumexp".split(), with_axes),
    **dict.fromkeys("cumsum cumprod prod".split(), with_axis),
    **{f"avg_pool{n}d": _pool(n) for n in (1, 2, 3)},
    **{f"max_pool{n}d": _pool(n) for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": _adaptive(n) for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": _adaptive(n) for n in (1, 2, 3)},
    **{f"lp_pool{n}d": _of_rank(n + 2, then=lambda d, x: [x, "2.0", "2"]) for n in (1, 2)},
    "interpolate": _of_rank(
        4, then=lambda d, x: [x, d.choice(("scale_factor=2", "(3, 4), mode='bilinear'"))]
    ),
    "fold": _of_rank(3, then=lambda d, x: [x, "(4, 4)", "2"]),
    **{f"conv{n}d": _convolution(n) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _convolution(n, transposed=True) for n in (1, 2, 3)},
    "linear": lambda d, x: [x, d.parameter((3, d.shape(x)[-1])), d.choice(("None", d.parameter((3,))))],
    **dict.fromkeys("add sub mul rsub".split(), with_operand),
    "div": lambda d, x: [x, d.choice((d.number(), f"({d.like(x)}.abs() + 1)"))],
    "matmul": _matrix,
    "bmm": _square,
    **dict.fromkeys("mm mv".split(), _of_rank(2, then=_matrix)),
    "addmm": _of_rank(2, then=lambda d, x: [d.parameter((3,)), x, d.parameter((d.shape(x)[1], 3))]),
    "addmv": _of_rank(2, then=lambda d, x: [d.parameter((1,)), x, d.parameter((d.shape(x)[1],))]),
    "baddbmm": _of_rank(3, then=lambda d, x: [d.parameter((1, 1, 1)), *_square(d, x)]),
    "addcmul": lambda d, x: [x, d.like(x), d.same_shape(x), *d.choice(([], ["value=0.5"]))],
    "addcdiv": lambda d, x: [x, d.like(x), f"({d.same_shape(x)}.abs() + 1)"],
    "lerp": lambda d, x: [x, d.same_shape(x), d.choice(("0.3", f"{d.like(x)}.sigmoid()"))],
    "ldexp": lambda d, x: [x, "torch.tensor(1)"],
    "einsum": _einsum,
    **dict.fromkeys("softmax log_softmax softmin".split(), with_axis),
    **dict.fromkeys("layer_norm rms_norm".split(), lambda d, x: [x, f"{x}.shape[-1:]"]),
    "group_norm": lambda d, x: [x, d.choice("12")],
    "instance_norm": _of_rank(3, 4),
    "local_response_norm": lambda d, x: [x, "3"],
    "normalize": lambda d, x: [x, "2.0", d.axis(x)],
    "cosine_similarity": lambda d, x: [x, d.same_shape(x), d.axis(x)],
    "scaled_dot_product_attention": _attention,
    "cdist": _of_rank(3, then=with_tensor),
    **dict.fromkeys(
        "max min".split(), lambda d, x: d.choice(([x, d.axis(x)], [x, d.same_shape(x)]))
    ),
    **dict.fromkeys("std_mean var_mean median cummax cummin".split(), with_axis),
    "norm": lambda d, x: [x, "2", d.axis(x)],
    **dict.fromkeys("argmax argmin argsort any all count_nonzero".split(), with_axis),
    "topk": lambda d, x: [x, "2", d.axis(x)],
    "sort": with_axis,
    **dict.fromkeys(
        "sigmoid hardsigmoid exp exp2 expm1 sin cos erf atan square abs relu relu6 neg".split(), alone
    ),
    **dict.fromkeys("log1p sqrt".split(), lambda d, x: [f"({x}.abs() + 0.1)"]),
    **dict.fromkeys("log log2 log10 rsqrt reciprocal".split(), lambda d, x: [f"({x}.abs() + 0.5)"]),
    "logit": lambda d, x: [f"({x}.sigmoid() * 0.9)"],
    **dict.fromkeys(
        "round floor ceil trunc sign isnan isinf isfinite logical_not long frexp".split(), alone
    ),
    "clamp": lambda d, x: [x, *d.choice((["0", "1"], ["-0.5"], ["0"], ["max=1"], ["-1", "0.5"]))],
    "clamp_min": lambda d, x: [x, d.choice(("0", "0.2"))],
    "clamp_max": lambda d, x: [x, "0.8"],
    "hardtanh": lambda d, x: [x, *d.choice((["0.0", "2.0"], ["-1.0", "1.0"]))],
    "pow": lambda d, x: d.choice(([x, "2"], [f"{x}.abs()", "1.5"])),
    **dict.fromkeys("maximum minimum copysign heaviside".split(), with_tensor),
    "where": lambda d, x: [_condition(d, x), x, d.like(x)],
    "masked_fill": lambda d, x: [x, _condition(d, x), d.number()],
    "floordiv": lambda d, x: [x, "0.3"],
    "mod": lambda d, x: [x, "0.7"],
    **dict.fromkeys("eq ne lt le gt ge".split(), with_operand),
    **dict.fromkeys("logical_and logical_or logical_xor".split(), with_tensor),
    **dict.fromkeys(
        "bitwise_and bitwise_or bitwise_xor".split(),
        lambda d, x: [_condition(d, x), _condition(d, x)],
    ),
    "bitwise_not": lambda d, x: [_condition(d, x)],
    **dict.fromkeys("zeros_like ones_like".split(), alone),
    "full_like": lambda d, x: [x, d.number()],
    **dict.fromkeys("new_zeros new_ones".split(), lambda d, x: [x, f"{x}.shape"]),
    **dict.fromkeys("leaky_relu gelu silu mish elu tanh softplus hardswish".split(), alone),
    "glu": with_axis,
}  # fmt: skip

# Steps: ties between values that are equal in the network but for rounding decide them.
STEPS = set(
    """round floor ceil trunc sign long frexp argmax argmin argsort any all count_nonzero eq ne lt le gt
ge logical_and logical_or logical_xor logical_not heaviside floordiv mod copysign isnan isinf isfinite
sort topk median cummax cummin""".split()
)

KERNELS = ("3, padding=1", "1", "2", "3, 2, 1", "3, padding='same'", "3, padding=1, bias=False")
PADS = ("Zero", "Reflection", "Replication", "Circular")
MODULES = {  # row: text of a module that takes this value
    "identity": lambda d, x: "nn.Identity()",
    "dropout": lambda d, x: "nn.Dropout(0.5)",
    "drop_path": lambda d, x: "nn.AlphaDropout(0.5)",
    "flatten": lambda d, x: f"nn.Flatten({d.choice('12')})",
    "unflatten": lambda d, x: f"nn.Unflatten({d.axis(x)}, (-1, 2))",
    "relu": lambda d, x: f"nn.ReLU({d.choice(('', 'inplace=True'))})",
    "relu6": lambda d, x: "nn.ReLU6()",
    "hardtanh": lambda d, x: "nn.Hardtanh(0.0, 1.5)",
    "sigmoid": lambda d, x: "nn.Sigmoid()",
    "softmax": lambda d, x: f"nn.Softmax({d.axis(x)})",
    "layer_norm": lambda d, x: f"nn.LayerNorm({d.shape(x)[-1]})",
    "group_norm": lambda d, x: f"nn.GroupNorm(1, {d.shape(x)[1]})",
    "instance_norm": _of_rank(4, then=lambda d, x: "nn.InstanceNorm2d(1)"),
    "batch_norm": _of_rank(2, 3, 4, 5, then=_batch_norm),
    "conv1d": _of_rank(3, then=lambda d, x: f"nn.Conv1d({d.shape(x)[1]}, 4, 3, padding=1)"),
    "conv2d": _of_rank(4, then=lambda d, x: f"nn.Conv2d({d.shape(x)[1]}, 4, {d.choice(KERNELS)})"),
    "conv3d": _of_rank(5, then=lambda d, x: f"nn.Conv3d({d.shape(x)[1]}, 3, 1)"),
    "conv_transpose2d": _of_rank(4, then=lambda d, x: f"nn.ConvTranspose2d({d.shape(x)[1]}, 3, 2)"),
    "linear": lambda d, x: f"nn.Linear({d.shape(x)[-1]}, {d.choice('345')})",
    "max_pool2d": _of_rank(4, then=lambda d, x: "nn.MaxPool2d(2)"),
    "avg_pool2d": _of_rank(4, then=lambda d, x: "nn.AvgPool2d(3, 1, 1)"),
    "adaptive_avg_pool2d": _of_rank(4, then=lambda d, x: "nn.AdaptiveAvgPool2d(2)"),
    "interpolate": _of_rank(4, then=lambda d, x: "nn.Upsample(scale_factor=2)"),
    "pad": _of_rank(4, then=lambda d, x: f"nn.{d.choice(PADS)}Pad2d(1)"),
    "constant_pad": _of_rank(4, then=lambda d, x: "nn.ConstantPad2d(1, 0.5)"),
    "pixel_shuffle": _of_rank(4, then=lambda d, x: "nn.PixelShuffle(2)"),
    "im2col": _of_rank(4, then=lambda d, x: "nn.Unfold(2)"),
    "channel_shuffle": _of_rank(4, then=lambda d, x: "nn.ChannelShuffle(2)"),
    "softmin": lambda d, x: f"nn.Softmin({d.axis(x)})",
    "gelu": lambda d, x: "nn.GELU()",
}  # fmt: skip


# -- lines that belong together ----------------------------------------------------------------


def layer(d, x):
    """A weight layer, perhaps a norm, an activation."""
    kind = "conv2d" if d.rank(x) == 4 else "conv1d" if d.rank(x) == 3 and d.coin() else "linear"
    module = d.module(MODULES[kind](d, x))
    text = f"{module}({x})"
    if d.coin() and kind == "conv2d":
        text = f"{d.module('nn.BatchNorm2d(4)')}({text})"
    return [f"{d.name()} = {d.activated(text)}"]


def shared(d, x):
    """A module that was called before, once more."""
    fits(d.modules)
    return [f"{d.name()} = self.{d.choice(list(d.modules))}({x})"]


def written_view(d, x):
    """A view of a value, changed in place; the value is read later on."""
    view = d.name()
    views = [
        f"{x}[{_index(d, x)}]",
        f"{x}.transpose({d.axis(x)}, {d.axis(x)})",
        f"{x}.flatten(1)",
        f"{x}.narrow({d.axis(x)}, 0, 1)",
        f"{x}.view({_shape(d, x)[1]})",
        f"{x}.chunk(2, {d.axis(x)})[{d.choice('01')}]",
        f"{x}.unbind({d.axis(x)})[0]",
        f"{x}.squeeze({d.axis(x)})",
        f"{x}.unsqueeze(1)",
        f"{x}.movedim({d.axis(x)}, {d.axis(x)})",
        f"{x}.diagonal(0, {d.axis(x)}, {d.axis(x)})",
        f"{x}.select({d.axis(x)}, 0)",
    ]
    source = f"{d.name()} = {x}.clone()" if d.coin() else None
    if source:
        views = [text.replace(x, source.split()[0], 1) for text in views]
    changes = [
        "mul_(-0.5)",
        "add_(0.3)",
        "relu_()",
        "zero_()",
        "fill_(0.2)",
        "clamp_(0, 1)",
        "neg_()",
    ]
    lines = [source] if source else []
    return [*lines, f"{view} = {d.choice(views)}", f"{view}.{d.choice(changes)}"]


def assigned_part(d, x):
    d.alone(x)
    values = [d.number(), "0", f"{d.value()}[{_index(d, x)}]"]
    sign = d.choice(("=", "=", "+=", "*=", "-="))
    return [f"{x}[{_index(d, x)}] {sign} {d.choice(values)}"]


def augmented(d, x):
    d.alone(x)
    return [f"{x} {d.choice(('+=', '-=', '*='))} {d.choice((d.like(x), d.number()))}"]


def gate(d, x):
    pooled = f"{x}.mean({d.axes(x)}, keepdim=True)"
    function = d.choice(("torch.sigmoid({})", "F.hardsigmoid({})", "{}.sigmoid()", "{}.softmax(1)"))
    source = d.choice((pooled, d.same_shape(x), d.like(x)))
    return [f"{d.name()} = {x} * {function.format(source)}"]


def attention(d, x):
    fits(d.rank(x) in (3, 4))
    tokens, names = d.name(), [d.name() for _ in "qkv"]
    text = f"{x}.flatten(2).transpose(1, 2)" if d.rank(x) == 4 else x
    width = d.shape(x)[1 if d.rank(x) == 4 else 2]
    layers = [d.module(f"nn.Linear({width}, 4)") for _ in names]
    parts = [f"{n} = {d.activated(f'{m}({tokens})')}" for n, m in zip(names, layers, strict=True)]
    q, k, v = names
    scores = f"{q} @ {k}.transpose(-2, -1) * 0.5"
    scores = d.choice(
        (f"({scores}).softmax(-1)", d.activated(scores), f"F.softmax({scores}, dim=-1)")
    )
    return [f"{tokens} = {text}", *parts, f"{d.name()} = {scores} @ {v}"]


def several(d, x):
    """A call that gives several tensors, taken apart."""
    a, b = d.name(), d.name()
    axis = d.axis(x)
    calls = [
        f"{x}.chunk(2, {axis})",
        f"{x}.split({max(1, d.shape(x)[int(axis)] // 2)}, {axis})",
        f"torch.var_mean({x}, {axis}, keepdim=True)",
        f"torch.max({x}, {axis}, keepdim=True)",
        f"torch.topk({x}, 2, {axis})",
        f"{x}.unbind({axis})",
        f"{d.module('Pair()')}({x})",
        f"torch.std_mean({x}, {axis})",
    ]
    return [f"{a}, {b}, *_ = {d.choice(calls)}"]


def leaf(d, x):
    return [f"{d.name()} = {d.module(d.choice(('Wave()', 'Norm()')))}({x})"]


def kernel_of_image(d, x):
    """A convolution whose kernel is made of each image."""
    fits(d.rank(x) == 4 and d.shape(x)[1] * 9 <= 108)
    n, h, w = d.shape(x)[1:]
    kernel = f"x.flatten(1)[:, :{9 * n}].reshape(-1, {n}, 3, 3)"
    folded = f"{x}.reshape(1, -1, {h}, {w})"
    text = f"F.conv2d({folded}, {kernel}, padding=1, groups={x}.shape[0])"
    return [f"{d.name()} = {text}.reshape(-1, 1, {h}, {w})"]


def kernel_of_a_value(d, x):
    """A weight that is itself a value of the network: per image, as of a mixture of experts."""
    fits(d.rank(x) == 4)
    n, h, w = d.shape(x)[1:]
    source = d.value()
    fits(d.count_of(source) // 3 >= n * 4)
    kernel = f"{source}.flatten(1)[:, :{n * 4}].reshape(-1, {n}, 2, 2)"
    fits(h > 1 and w > 1)
    text = f"F.conv2d({x}.reshape(1, -1, {h}, {w}), {kernel}, groups={x}.shape[0])"
    return [f"{d.name()} = {text}.reshape(-1, 1, {h - 1}, {w - 1})"]


def moved_batch(d, x):
    """The batch on another axis for a while."""
    a, b, axis = d.name(), d.name(), d.choice(range(1, d.rank(x)))
    work = [
        "{} * 0.5",
        "{}.neg()",
        "{} + 0.3",
        "{}.relu()",
        f"{{}} * {d.number()}",
        "{}.softmax(-1)",
    ]
    if axis != d.rank(x) - 1:
        work.append(f"{d.module(f'nn.Linear({d.shape(x)[-1]}, 3)')}({{}})")
    return [
        f"{a} = {x}.transpose(0, {axis})",
        f"{b} = {d.choice(work).format(a)}",
        f"{d.name()} = {b}.transpose({axis}, 0)",
    ]


def folded_axis(d, x):
    """Parts of an image that follow each other on the batch axis: windows, heads, groups."""
    fits(d.rank(x) > 2)
    a, b, shape = d.name(), d.name(), d.shape(x)
    fold = d.choice((f"{x}.flatten(0, 1)", f"{x}.reshape(-1, {', '.join(map(str, shape[2:]))})"))
    if d.rank(x) == 4:
        work = [
            d.activated(f"{d.module(f'nn.Linear({shape[3]}, {shape[3]})')}({a})"),
            f"{a}.softmax(1)",
        ]
    else:
        work = [d.activated(f"{a} - 0.1"), f"{a}.softmax(-1)", f"{a} * {a}.mean(1, keepdim=True)"]
    return [f"{a} = {fold}", f"{b} = {d.choice(work)}", f"{d.name()} = {b}.reshape({x}.shape)"]


def site_of_constants(d, x):
    """An activation that sees no spikes: of parameters, or of the image."""
    forms = [f"{x} * F.relu({d.parameter(d.shape(x)[1:])})"]
    if d.shape(x)[1:] == d.shape("x")[1:]:
        forms.append(f"{x} + F.relu(x - 0.2)")
    forms.append(
        f"{x} * x.mean((1, 2, 3)).relu().reshape(-1, {', '.join(['1'] * (d.rank(x) - 1))})"
    )
    return [f"{d.name()} = {d.choice(forms)}"]


def of_sizes(d, x):
    """Numbers and tensors that the shape gives."""
    a = d.name()
    forms = [
        f"{x} * {x}.shape[-1] ** -0.5",
        f"{x} + torch.arange({x}.shape[-1], dtype={x}.dtype)",
        f"{x} + torch.linspace(0, 1, {x}.shape[-1]).to({x})",
        f"{x} * torch.ones({x}.shape[-1], dtype={x}.dtype).tril()",
        f"{x} + {x}.new_full({x}.shape[1:], 0.1)",
        f"torch.cat([{x}, torch.zeros_like({x})], {d.axis(x)})",
        f"torch.cat([{x}, {x}.new_ones({x}.shape)], {d.axis(x)})",
        f"torch.zeros_like({x}) + {x}.mean({d.axes(x)}, keepdim=True)",
        f"{x} / {x}.shape[1:].numel() + {x}.ndim",
        f"{x}.expand(2, *{x}.shape).mean(0)",
        f"torch.stack([{x}] * {x}.dim(), 1)",
    ]
    return [f"{a} = {d.choice(forms)}"]


GROUPS = {
    layer: 6,
    shared: 1,
    written_view: 1,
    assigned_part: 2,
    augmented: 2,
    gate: 2,
    attention: 1,
    several: 2,
    leaf: 1,
    kernel_of_image: 1,
    kernel_of_a_value: 0,
    moved_batch: 0,
    folded_axis: 2,
    site_of_constants: 1,
    of_sizes: 2,
}
