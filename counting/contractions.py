"""Operations with synapses: convolutions and matrix products, from the call to their counts.

`CONTRACTIONS` maps aten names to a function that reads the call's arguments and result and returns
one `Contraction` (or several). A new operation is one function and one row.
"""

import dataclasses
import math
from collections.abc import Callable

from torch import Tensor

from .fanout import conv_fanout
from .nonzero import count_nonzero, count_per_position
from .provenance import Tag


@dataclasses.dataclass
class Operand:
    """One input of a contraction.

    Attributes:
        tensor: the values.
        reach: outputs that one nonzero element feeds: a number, or int64 [*places] for the last
            axes.
        connections: reach summed over all elements, zero or not.
        origin: the argument of the call of which `tensor` is a view.
        analog: made inside the operation, of analog values.
    """

    tensor: Tensor
    reach: int | Tensor
    connections: int
    origin: Tensor | None = None
    analog: bool = False

    @property
    def argument(self) -> Tensor:
        return self.tensor if self.origin is None else self.origin

    def events(self, tag: Tag | None) -> int:
        """Nonzero elements, each times what it reaches.

        Args:
            tag: keeps counts that another consumer of the same tensor can use again.
        """
        if isinstance(self.reach, int):
            return self.reach * self.nonzero(tag)
        places = tuple(self.reach.shape)
        counts = tag.spatial_counts(self.tensor, places) if tag is not None else None
        if counts is None:
            counts = count_per_position(self.tensor, math.prod(places))
            if tag is not None:
                tag.keep(self.tensor, int(counts.sum()), (places, counts))
        return int((counts.cpu().view(places) * self.reach).sum())

    def nonzero(self, tag: Tag | None) -> int:
        """Nonzero elements."""
        count = tag.nonzero_count(self.tensor) if tag is not None else None
        if count is None:
            count = count_nonzero(self.tensor)
            if tag is not None:
                tag.keep(self.tensor, count)
        return count


@dataclasses.dataclass
class Contraction:
    """What one call costs.

    Attributes:
        kind: "conv", "linear" or "product" (set by the counter: a product of two data tensors).
        macs: multiply-accumulates of the dense operation, padding included.
        left, right: the operands; of a convolution the right one is its kernel.
        outputs: elements of the result.
        bias: additions of a bias.
        detail: geometry in words, for reports.
        signature: geometry without the batch, which tells operations of one module apart.
    """

    kind: str
    macs: int
    left: Operand
    right: Operand
    outputs: int
    bias: int = 0
    detail: str = ""
    signature: tuple[int, ...] = ()


def _list(value, dims: int) -> list[int]:
    value = [value] if isinstance(value, int) else list(value)
    return value * dims if len(value) == 1 else value


def convolution(args: tuple, kwargs: dict, out: Tensor) -> list[Contraction]:
    """aten.convolution(input, weight, bias, stride, padding, dilation, transposed, _, groups)."""
    x, weight, bias, stride, padding, dilation, transposed, _, groups = args[:9]
    dims = weight.dim() - 2
    batched = x.dim() == dims + 2
    size, kernel = list(x.shape[-dims:]), list(weight.shape[2:])
    per_group = weight.shape[1] if transposed else weight.shape[0] // groups
    fan = conv_fanout(
        size,
        out.shape[-dims:],
        kernel,
        _list(stride, dims),
        _list(padding, dims),
        _list(dilation, dims),
        transposed,
    )
    rows = math.prod(x.shape[:-dims])
    connections = rows * int(fan.sum()) * per_group
    if transposed:
        macs = x.numel() * math.prod(kernel) * per_group
    else:
        macs = out.numel() * math.prod(kernel) * weight.shape[1]
    uniform = int(fan.min()) == int(fan.max())
    reach = int(fan.view(-1)[0]) * per_group if uniform else fan * per_group
    images = x.shape[0] if batched else 1
    left = Operand(x, reach, connections)
    right = Operand(weight, images * math.prod(out.shape[-dims:]), macs)
    name = f"{'transposed ' if transposed else ''}{'x'.join(map(str, kernel))}"
    detail = f"{name}, stride {'x'.join(map(str, _list(stride, dims)))}" + (
        f", {groups} groups" if groups > 1 else ""
    )
    return [
        Contraction(
            "conv",
            macs,
            left,
            right,
            out.numel(),
            out.numel() if bias is not None else 0,
            detail,
            (*weight.shape, *size),
        )
    ]


def pairs(a: Tensor, b: Tensor) -> int:
    """Nonzero elements of [..., m, k] and [..., k, n] that meet in their product."""
    return int(((a != 0).sum(-2) * (b != 0).sum(-1)).sum())


def gate(a: Tensor, b: Tensor, out: Tensor) -> Contraction:
    """a * b, element by element, broadcast."""
    macs = out.numel()
    left, right = (Operand(x, macs // max(1, x.numel()), macs) for x in (a, b))
    return Contraction("gate", macs, left, right, macs, detail="element by element")


def matrix_product(a: Tensor, b: Tensor, bias: int = 0, origins=(None, None)) -> Contraction:
    """[..., m, k] @ [..., k, n], equal leading axes."""
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    batch = math.prod(a.shape[:-2])
    macs = batch * m * k * n
    detail = f"{m}x{k} @ {k}x{n}"
    return Contraction(
        "linear",
        macs,
        Operand(a, n, macs, origins[0]),
        Operand(b, m, macs, origins[1]),
        batch * m * n,
        bias,
        detail,
        (m, k, n),
    )


def _mm(args, kwargs, out):
    return [matrix_product(args[0], args[1])]


def _addmm(args, kwargs, out):
    return [matrix_product(args[1], args[2], out.numel())]


def _mv(args, kwargs, out):
    return [matrix_product(args[0], args[1].unsqueeze(-1), origins=(None, args[1]))]


def _addmv(args, kwargs, out):
    return [matrix_product(args[1], args[2].unsqueeze(-1), out.numel(), (None, args[2]))]


def _dot(args, kwargs, out):
    return [matrix_product(args[0].unsqueeze(0), args[1].unsqueeze(-1), origins=args[:2])]


def attention(args: tuple, kwargs: dict, out) -> list[Contraction]:
    """Fused scaled dot-product attention: q k^T, then softmax (inside, analog) times v.

    q [B, h, M, d], k [B, h, N, d], v [B, h, N, e].
    """
    q, k, v = args[:3]
    scores = matrix_product(q, k.transpose(-2, -1), origins=(None, k))
    softmax = scores.left.tensor.new_ones(1).expand(*q.shape[:-1], k.shape[-2])
    mixed = matrix_product(softmax, v)
    mixed.left.analog = True
    return [scores, mixed]


CONTRACTIONS: dict[str, Callable[[tuple, dict, Tensor], list[Contraction]]] = {
    "convolution": convolution,
    "mm": _mm,
    "bmm": _mm,
    "addmm": _addmm,
    "baddbmm": _addmm,
    "mv": _mv,
    "addmv": _addmv,
    "dot": _dot,
    "_scaled_dot_product_flash_attention_for_cpu": attention,
    "_scaled_dot_product_flash_attention": attention,
    "_scaled_dot_product_efficient_attention": attention,
    "_scaled_dot_product_cudnn_attention": attention,
}
