"""Operands that are no values (indices, kernels), views written in place, several outputs, far masks."""

import collections

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikeswap.calibrate import activation_thresholds
from spikeswap.convert import UnconvertibleError, convert_model, insert_qcfs

STEPS = 40


class Net(nn.Module):
    """A convolution, ReLU, `body(net, relu, image)` [B, 8, 8, 8], a convolution, a head."""

    def __init__(self, body, inner=None):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.inner, self.body, self.head = inner, body, nn.Linear(8, 5)

    def forward(self, x):
        y = self.body(self, F.relu(self.a(x)), x)
        return self.head(F.relu(self.b(y)).mean((2, 3)))


@pytest.fixture
def x():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(4)).double()


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


def index_of(image):
    """[B, 8, 8, 8] whole numbers 0 to 7, made from the image."""
    return (image[:, :1].abs() * 3).long().clamp(max=7).expand(-1, 8, -1, -1)


def kernels_of(image):
    """[B * 8, 8, 3, 3], made from the image."""
    return image[:, :, :3, :3].mean(1, keepdim=True).repeat(1, 64, 1, 1).reshape(-1, 8, 3, 3)


BODIES = {
    "gather": lambda net, y, image: y.gather(1, index_of(image)),
    "take_along_dim": lambda net, y, image: torch.take_along_dim(y, index_of(image), 1),
    "gather by a sorted index": lambda net, y, image: y.gather(
        1, image.mean(1, keepdim=True).expand(-1, 8, -1, -1).argsort(1)
    ),
    "where": lambda net, y, image: torch.where(image[:, :1] > 0, y, 0.5 * y),
    "division by the image": lambda net, y, image: y / (1 + image[:, :1].abs()),
    "a gate of the image": lambda net, y, image: y * image[:, :1].sigmoid(),
    "matmul with the image": lambda net, y, image: y @ image[:, :1],
    "an offset of the image": lambda net, y, image: y - image[:, :1],
    "rsub": lambda net, y, image: torch.rsub(image[:, :1].expand(-1, 8, -1, -1), y, alpha=2),
    "sign": lambda net, y, image: y * (y - 0.3).sign(),
    "tile": lambda net, y, image: y[:, :4].tile(1, 2, 1, 1),
}


def converted(net, x, neuron, **arguments):
    torch.manual_seed(0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    net = net.double().eval()
    thresholds = activation_thresholds(net, [x], **arguments)
    quantised = insert_qcfs(net, levels=8, thresholds=thresholds, **arguments)
    return convert_model(quantised, neuron=neuron, **arguments), quantised


@pytest.mark.parametrize("neuron", ["multi", "stbif"])
@pytest.mark.parametrize("name", BODIES)
def test_operands_that_are_no_values_act_in_every_step(name, neuron, x):
    snn, quantised = converted(Net(BODIES[name]), x, neuron)
    assert error(snn(x, timesteps=STEPS)[-1], quantised(x)) < 1e-9


@pytest.mark.parametrize("neuron", ["if", "multi", "stbif"])
def test_kernels_made_from_the_image_are_right_or_refused(neuron, x):
    def body(net, y, image):
        kernels = kernels_of(image)
        out = F.conv2d(y.reshape(1, -1, 8, 8), kernels, padding=1, groups=len(image))
        return out.reshape(-1, 8, 8, 8)

    try:
        snn, quantised = converted(Net(body), x, neuron, example_inputs=x)
    except UnconvertibleError as refused:
        assert "images" in str(refused) or "conv2d" in str(refused)
        return
    if neuron != "if":
        assert error(snn(x, timesteps=STEPS)[-1], quantised(x)) < 1e-9


VIEWS = {
    "swapdims": lambda h: h.swapdims(1, 2),
    "moveaxis": lambda h: h.moveaxis(1, 3),
    "split_with_sizes": lambda h: h.split_with_sizes([2, 6], 1)[0],
    "reshape_as": lambda h: h.reshape_as(h),
    "broadcast_to": lambda h: h.broadcast_to(h.shape),
    "positive": lambda h: h.positive(),
    "type_as": lambda h: h.type_as(h),
    "unfold": lambda h: h.unfold(2, 2, 2),
    "diagonal": lambda h: h.diagonal(0, 2, 3),
}


@pytest.mark.parametrize("size", [8, 30])
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_written_in_place_is_right_or_refused(view, size):
    def body(net, y, image):
        h = y + 0
        VIEWS[view](h).mul_(-1.5).add_(1)
        return h

    class Sized(Net):
        def forward(self, x):
            y = self.body(self, F.relu(self.a(x)), x)
            return self.head(F.relu(self.b(y)).flatten(2).view(-1, 8, size * size).mean(2))

    images = torch.randn(2, 3, size, size).double()
    try:
        snn, quantised = converted(Sized(body), images, "multi")
    except UnconvertibleError as refused:
        assert "in place" in str(refused)
        return
    eager = Sized(body).double()
    eager.load_state_dict(quantised.state_dict(), strict=False)
    fine = insert_qcfs(eager.eval(), levels=2**20, threshold=64.0)
    assert error(fine(images), eager(images)) < 1e-4
    assert error(snn(images, timesteps=STEPS)[-1], quantised(images)) < 1e-9


Pair = collections.namedtuple("Pair", "small large")


class Several(nn.Module):
    """A leaf whose `forward` no tracer follows."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, y):
        if float(y.sum()) > 1e9:
            raise RuntimeError("too large")
        parts = y * 0.5, y.square()
        return {"tuple": parts, "list": list(parts), "named": Pair(*parts)}.get(
            self.kind, dict(zip(Pair._fields, parts, strict=True))
        )


TAKE = {
    "tuple": lambda out: out[0] + out[1],
    "list": lambda out: out[0] + out[1],
    "named": lambda out: out.small + out.large,
    "dict": lambda out: out["small"] + out["large"],
}


@pytest.mark.parametrize("example", [False, True])
@pytest.mark.parametrize("kind", TAKE)
def test_a_leaf_may_give_several_tensors(kind, example, x):
    net = Net(lambda net, y, image: TAKE[kind](net.inner(y)), Several(kind))
    given = {"example_inputs": x} if example else {}
    snn, quantised = converted(net, x, "multi", leaf_modules=["inner"], **given)
    assert error(snn(x, timesteps=STEPS)[-1], quantised(x)) < 1e-9


@pytest.mark.parametrize("neuron", ["multi", "if"])
@pytest.mark.parametrize("module", [True, False])
def test_a_pool_may_give_its_indices(neuron, module, x):
    pool = nn.MaxPool2d(2, return_indices=True)
    if not module:
        net = Net(
            lambda net, y, image: F.interpolate(
                F.max_pool2d(y, 2, return_indices=True)[0], scale_factor=2
            )
        )
    else:
        net = Net(lambda net, y, image: F.interpolate(net.inner(y)[0], scale_factor=2), pool)
    snn, quantised = converted(net, x, neuron)
    if neuron == "multi":
        assert error(snn(x, timesteps=STEPS)[-1], quantised(x)) < 1e-9


class Attention(nn.Module):
    def __init__(self, between, fused=False):
        super().__init__()
        self.embed = nn.Linear(6, 6)
        self.q, self.k, self.v = (nn.Sequential(nn.Linear(6, 6), nn.ReLU()) for _ in range(3))
        self.scores, self.act, self.head = nn.ReLU(), nn.ReLU(), nn.Linear(6, 3)
        self.between, self.fused = between, fused

    def forward(self, x):
        x = F.relu(self.embed(x))
        q, k, v = self.q(x), self.k(x), self.v(x)
        for _ in range(self.between):
            q = q * 1.01
        if self.fused:
            return self.head(self.act(F.scaled_dot_product_attention(q, k, v)).mean(1))
        scores = self.scores(q @ k.transpose(1, 2))
        return self.head(self.act(scores.softmax(-1) @ v).mean(1))


@pytest.mark.parametrize("between", [0, 1, 25, 60])
def test_queries_keys_and_scores_are_masked_however_far_they_are(between):
    quantised = insert_qcfs(Attention(between).eval(), mask=0.5)
    masked = {
        name.removesuffix("_mask") for name, _ in quantised.named_modules() if "_mask" in name
    }
    assert masked == {"q.1", "k.1", "scores"}


def test_fused_attention_masks_queries_and_keys_alone():
    quantised = insert_qcfs(Attention(0, fused=True).eval(), mask=0.5)
    masked = {
        name.removesuffix("_mask") for name, _ in quantised.named_modules() if "_mask" in name
    }
    assert masked == {"q.1", "k.1"}
