"""The fast counter against an explicit loop over every spike, on random networks."""

import itertools

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import nn

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.counting import NodeCounter, OperationCounter, settle
from spikeswap.models import create_model
from spikeswap.neurons import Accumulate


def loop_over_spikes(layer: nn.Module, x: torch.Tensor) -> int:
    """Accumulations of one call of a layer: for each spike, each output that it reaches."""
    if isinstance(layer, nn.Linear):
        return sum(layer.out_features for value in x.flatten().tolist() if value != 0)
    kernel, stride, padding = layer.kernel_size, layer.stride, layer.padding
    dilation, groups = layer.dilation, layer.groups
    height, width = x.shape[-2:]
    out = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip((height, width), kernel, stride, padding, dilation, strict=True)
    ]
    total = 0
    for _, _, i, j in x.nonzero().tolist():
        for ki, kj in itertools.product(range(kernel[0]), range(kernel[1])):
            oi, ri = divmod(i + padding[0] - ki * dilation[0], stride[0])
            oj, rj = divmod(j + padding[1] - kj * dilation[1], stride[1])
            if ri == rj == 0 and 0 <= oi < out[0] and 0 <= oj < out[1]:
                total += layer.out_channels // groups
    return total


def brute_force(model, layers, run) -> int:
    """Accumulations of all `layers` while `run` runs."""
    total = [0]

    def hook(layer, args):
        total[0] += loop_over_spikes(layer, args[0])

    handles = [layer.register_forward_pre_hook(hook) for layer in layers]
    run()
    for handle in handles:
        handle.remove()
    return total[0]


def fast(model, images, steps, **more):
    converted = hasattr(model, "sites")
    counter = NodeCounter(model) if converted else OperationCounter(model, True)
    with torch.no_grad(), counter.attached():
        functional.reset_net(model)
        with counter.forward(images, steps) as marked:
            model(marked, timesteps=steps, **more)
        counter.close(len(images), steps)
    return settle(counter.ledger, True)


class RandomNet(nn.Module):
    """Convolutions of random geometry, pooling and a head, with SpikingJelly's neurons."""

    def __init__(self, seed, step_mode):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)

        def pick(*choices):
            return choices[int(torch.randint(len(choices), (1,), generator=draw))]

        def fire():
            return pick(neuron.IFNode, neuron.LIFNode)(step_mode=step_mode)

        self.step_mode = step_mode
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.fire1 = fire()
        self.conv1 = nn.Conv2d(
            4,
            4,
            pick(1, 3),
            stride=pick(1, 2),
            padding=pick(0, 1),
            dilation=pick(1, 2),
            groups=pick(1, 2, 4),
            bias=False,
        )
        self.fire2 = fire()
        self.pool = pick(nn.Identity(), nn.MaxPool2d(2))
        self.conv2 = nn.Conv2d(4, 6, (pick(1, 2), pick(1, 3)), padding=(0, 1), stride=(1, 2))
        self.fire3 = fire()
        self.head = nn.LazyLinear(3)

    def over_time(self, layer, x):  # [T, B, ...] or [B, ...]
        if self.step_mode == "s":
            return layer(x)
        return functional.seq_to_ann_forward(x, layer)

    def step(self, x):
        x = self.fire1(self.over_time(self.stem, x) * 2)
        x = self.pool_over_time(self.fire2(self.over_time(self.conv1, x) * 6))
        x = self.fire3(self.over_time(self.conv2, x) * 6)
        return self.head(x.flatten(-3))

    def pool_over_time(self, x):
        return self.over_time(self.pool, x)

    def forward(self, images, timesteps=3):
        if self.step_mode == "m":
            return self.step(images.unsqueeze(0).repeat(timesteps, 1, 1, 1, 1))
        return torch.stack([self.step(images) for _ in range(timesteps)])


@pytest.mark.parametrize("step_mode", ["m", "s"])
@pytest.mark.parametrize("seed", range(6))
def test_random_spikingjelly_networks(seed, step_mode):
    torch.manual_seed(seed)
    model = RandomNet(seed, step_mode).eval()
    images = torch.rand(2, 1, 13, 12)
    model(images)
    functional.reset_net(model)
    layers = [model.conv1, model.conv2, model.head]
    expected = brute_force(model, layers, lambda: model(images))
    totals = fast(model, images, 3)
    assert totals.acs == expected / 2
    assert totals.macs == 13 * 12 * 9 * 4
    assert expected > 0


def small_network(name):
    """A network of the zoo that is small enough for loops, with lively statistics."""
    swin = {"embed_dim": 12, "depths": (1, 1), "num_heads": (2, 2), "window_size": 2}
    size, overrides = (8, {}) if name == "resnet20" else (16, swin)
    network = create_model(name, num_classes=4, img_size=size, in_chans=1, **overrides)
    network.train()
    network(torch.rand(8, 1, size, size))
    return network, torch.rand(2, 1, size, size)


def loop_over_increments(snn, images) -> int:
    """Accumulations at products of two running values: each spike of either, each output."""
    sent, total = {}, [0]

    def observe(node, module, args, kwargs, output, clock):
        if isinstance(module, Accumulate):
            sent[node] = args[0]
        factors = [n for n in node.all_input_nodes if n in sent]
        if len(factors) == 2 and "matmul" in str(node.target):
            (q, k), (m, n) = (sent[f] for f in factors), output.shape[-2:]
            total[0] += n * sum(v != 0 for v in q.flatten().tolist())
            total[0] += m * sum(v != 0 for v in k.flatten().tolist())

    with snn.observe(observe):
        snn(images, timesteps=3)
    return total[0]


@pytest.mark.parametrize("neuron_kind", ["if", "stbif", "multi"])
@pytest.mark.parametrize(
    "name, products",
    [("resnet20", "increments"), ("swin_nano_bn", "increments"), ("swin_nano_bn", "dense")],
)
def test_converted_networks(name, neuron_kind, products):
    network, images = small_network(name)
    ann = insert_qcfs(network, levels=4, threshold=1.0, mask=0.5).eval()
    snn = convert_model(ann, neuron=neuron_kind, products=products)
    layers = [m for m in snn.network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    first, head = layers[0], layers[-1]
    driven = [layer for layer in layers if layer not in (first, head)]
    expected = brute_force(snn, driven, lambda: snn(images, timesteps=3, chunk=2))
    added = loop_over_increments(snn, images)
    assert (added > 0) == (name == "swin_nano_bn")
    expected += added if products == "increments" else 0
    for chunk in (1, 2, 3):
        totals = fast(snn, images, 3, chunk=chunk)
        assert totals.acs == expected / 2, chunk
    kinds = {op.name: op.input for op in totals.operations}
    analog = [n for n, seen in kinds.items() if seen == "analog" and "matmul" not in n]
    assert len(analog) == 2, analog  # the image layer, and the head behind the average
    assert expected > 0


def test_per_step_attention_counts_meetings_of_spikes():
    network, images = small_network("swin_nano_bn")
    snn = convert_model(insert_qcfs(network, levels=4, threshold=0.5).eval(), attention="per-step")
    meetings = [0]

    def observer(node, module, args, kwargs, output, clock):
        if node.op == "call_function" and "matmul" in str(node.target):
            q, k = (x.reshape(-1, *x.shape[-2:]) for x in args)
            if bool((q.unique() >= 0).all()) and len(q.unique()) <= 2:  # q, and not softmax
                meetings[0] += int(((q != 0).double() @ (k != 0).double()).sum())

    with snn.observe(observer):
        snn(images, timesteps=4)
    totals = fast(snn, images, 4)
    products = [op for op in totals.operations if op.kind == "product"]
    scores = [op for op in products if "with analog" not in op.input]
    assert sum(op.acs for op in scores) == meetings[0] / 2
    assert all(op.macs == 0 for op in products)
