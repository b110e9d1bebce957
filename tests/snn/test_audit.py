"""The report and the audit: what each operation reads, what that costs, and one honest share."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikeswap.convert import convert_model, insert_qcfs, layer_errors
from spikeswap.counting.flow import flows
from spikeswap.counting.provenance import Kind
from spikeswap.evaluate import evaluate, observe
from spikeswap.models import create_model


class Net(nn.Module):
    """Image convolution, one on spikes, one on pooled spikes, linear on spikes, head on a mean."""

    def __init__(self):
        super().__init__()
        self.image, self.act1 = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
        self.spikes, self.act2 = nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False), nn.ReLU()
        self.pooled, self.act3 = nn.Conv2d(6, 6, 1, bias=False), nn.ReLU()
        self.linear, self.head = nn.Linear(6, 8), nn.Linear(6, 5)

    def forward(self, x):
        x = self.act2(self.spikes(self.act1(self.image(x))))
        x = self.act3(self.pooled(F.avg_pool2d(x, 2)))
        tokens = self.linear(x.flatten(2).transpose(1, 2))
        return self.head(x.mean((2, 3)) + tokens.mean((1, 2)).unsqueeze(1))


class Body(nn.Module):
    """Two activations around what `body(net, spikes)` makes of the first one's spikes."""

    def __init__(self, body, **modules):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
        self.head, self.body = nn.Linear(4, 5), body
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.head(self.body(self, self.act(self.conv(x))).mean((2, 3)))


class Attention(nn.Module):
    """q k^T and its softmax, each product written in its own way."""

    def __init__(self, product=lambda q, k: q @ k.transpose(1, 2)):
        super().__init__()
        self.q, self.k, self.act = nn.Linear(4, 6), nn.Linear(4, 6), nn.ReLU()
        self.product = product

    def forward(self, x):
        q, k = self.act(self.q(x)), self.act(self.k(x))
        return self.product(q, k).softmax(-1).mean(1)


SPIKES = {"if": "spikes {0,s}", "stbif": "signed spikes", "multi": "multi-level spikes"}


def converted(model, **how):
    return convert_model(insert_qcfs(model.eval(), levels=8, threshold=1.0), **how)


@pytest.fixture(params=list(SPIKES))
def snn(request):
    return converted(Net(), neuron=request.param)


def by_name(report):
    return {row.name: row for row in report.rows}


def accumulations(layer, recorded):
    """Sum over all spikes of the synapses that each really reaches: a convolution with ones.

    Args:
        recorded: spikes that the layer reads, [T, B, ...].
    """
    spikes = (recorded != 0).flatten(0, 1).double()
    ones = torch.ones_like(layer.weight, dtype=torch.double)
    return int(F.conv2d(spikes, ones, None, layer.stride, layer.padding, 1, layer.groups).sum())


# ---- what the graph alone says ------------------------------------------------------------------


def test_what_each_weight_layer_reads(snn):
    rows, spikes = by_name(snn.report), SPIKES[snn.info["neuron"]]
    layers = ("image", "spikes", "pooled", "linear", "head")
    assert [rows[n].input for n in layers] == ["analog", spikes, "analog", spikes, "analog"]
    mac, ac = "multiply-accumulate", "accumulate"
    assert [rows[n].arithmetic for n in layers] == [mac, ac, mac, ac, mac]
    assert rows["image"].when == "once an image"
    assert {rows[n].when for n in layers[1:]} == {"every step"}


def test_all_that_is_not_spiking_is_named(snn):
    names = {row.operation for row in snn.report.not_spiking}
    assert {"Conv2d", "Linear", "mean", "add"} <= names
    (pool,) = [row for row in snn.report.rows if "pool" in row.operation]
    assert pool.input == SPIKES[snn.info["neuron"]] and pool.arithmetic == "other"
    text = str(snn.report)
    assert "3 activation sites" in text and "2 of 5 weight layers see spikes" in text
    assert 4 <= len(text.splitlines()) <= 6


def spiking_names(body, **how):
    snn = converted(Body(body), **how)
    return {node.name for node, flow in flows(snn.network).items() if flow.kind is Kind.SPIKES}


def test_what_hands_spikes_on_and_what_does_not():
    moved = spiking_names(lambda net, x: torch.roll(x, 1, 2).movedim(1, 3).permute(0, 3, 1, 2))
    assert {"act", "roll", "movedim", "permute"} <= moved
    joined = spiking_names(lambda net, x: torch.cat([x, x.flip(2)], 1)[:, :4])
    assert {"flip", "cat", "getitem"} <= joined
    masked = converted(Net(), mask=0.5)
    assert any("mask" in n.name for n, f in flows(masked.network).items() if f.kind is Kind.SPIKES)
    for analog in (
        lambda net, x: x + x,
        lambda net, x: F.avg_pool2d(x, 2),
        lambda net, x: F.max_pool2d(x, 2),
        lambda net, x: x.softmax(1),
    ):
        assert spiking_names(analog) == {"act"}


# ---- with counts --------------------------------------------------------------------------------


def test_counts_are_the_closed_forms(snn):
    images, steps = torch.randn(2, 3, 8, 8), 5
    assert {row.count for row in snn.report.rows} == {None} and not snn.report.counted
    with snn.record() as spikes:
        snn(images, timesteps=steps)
    audit = snn.audit(images, timesteps=steps)
    rows, layers = by_name(audit), snn.network
    assert rows["image"].count == 4 * 8 * 8 * 3 * 9
    assert rows["spikes"].count == accumulations(layers.spikes, spikes["act1"]) / 2
    assert rows["pooled"].count == steps * 6 * 4 * 4 * 6
    assert rows["linear"].count == int((spikes["act3"] != 0).sum()) * 8 / 2
    assert rows["head"].count == steps * 6 * 5
    spiking, analog, once = 6 * 64 * 18 + 16 * 48, 6 * 16 * 6 + 30, 4 * 64 * 27
    total = steps * (spiking + analog) + once
    assert audit.spike_driven_share == steps * spiking / total


SWIN = {"embed_dim": 12, "depths": (1, 1), "num_heads": (2, 2), "window_size": 2}


def example(name):
    """A converted network and images for it."""
    torch.manual_seed(0)
    if name == "bodies":
        body = Body(
            lambda net, x: net.last(
                torch.hstack([x.detach(), F.interpolate(x[:, :2], scale_factor=1)])
            ),
            last=nn.Sequential(
                nn.Conv2d(6, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.LayerNorm((3, 3))
            ),
        )
        return body, torch.randn(2, 3, 8, 8)
    if name == "attention":
        return Attention(lambda q, k: torch.einsum("bnd,bmd->bnm", q, k)), torch.randn(2, 5, 4)
    if name == "plain":
        return Net(), torch.randn(2, 3, 8, 8)
    size, overrides = (16, SWIN) if "swin" in name else (8, {})
    network = create_model(name, num_classes=4, img_size=size, in_chans=1, **overrides)
    network.train()
    network(torch.rand(8, 1, size, size))
    return network, torch.rand(2, 1, size, size)


@pytest.mark.parametrize("neuron", SPIKES)
@pytest.mark.parametrize("name", ["plain", "bodies", "attention", "resnet20", "swin_nano_bn"])
def test_the_audit_is_the_evaluator_s_ledger(name, neuron):
    model, images = example(name)
    snn = converted(model, neuron=neuron)
    record = evaluate(snn, [(images, torch.zeros(len(images)).long())], timesteps=6)
    audit = snn.audit(images, timesteps=6)
    assert audit.spike_driven_share == record["spike_driven_share"]
    counts = dict.fromkeys(("accumulate", "multiply-accumulate", "other"), 0)
    for row in audit.rows:
        counts[row.arithmetic] += row.count
    assert counts["accumulate"] == pytest.approx(record["acs"])
    assert counts["multiply-accumulate"] == pytest.approx(record["macs"])
    others = {k: n for k, n in record["other_operations"].items() if k != "bias"}
    assert counts["other"] == pytest.approx(sum(others.values()))
    assert f"{100 * audit.spike_driven_share:.2f} %" in str(audit)
    for said, seen in zip(snn.report.rows, audit.rows, strict=True):  # with and without a run
        for what in ("name", "operation", "input", "arithmetic", "when", "weights"):
            assert getattr(said, what) == getattr(seen, what), (said, seen)


@pytest.mark.parametrize("name", ["bodies", "attention", "swin_nano_bn"])
def test_what_is_called_spikes_is_spikes(name):
    model, images = example(name)
    snn = converted(model, neuron="if", mask=0.3)
    found = flows(snn.network)

    def check(node, module, args, kwargs, output, clock):
        flow = found[node]
        if flow.kind is Kind.SPIKES:
            units = torch.stack([snn.sites[name].unit for name in sorted(flow.sources)])
            assert bool(((output == 0) | torch.isin(output, units)).all()), node

    with snn.observe(check):
        snn(images, timesteps=5)


def test_attention_products_of_running_values_are_multiply_accumulates():
    images = torch.randn(2, 5, 4)
    for attention, products, arithmetic in (
        ("accumulated", "dense", "multiply-accumulate"),
        ("accumulated", "increments", "accumulate"),
        ("per-step", "increments", "accumulate"),
    ):
        snn = converted(Attention(), attention=attention, products=products)
        for report in (snn.report, snn.audit(images, timesteps=3)):
            (row,) = [r for r in report.rows if r.operation == "matmul"]
            assert row.arithmetic == arithmetic
        assert (row.count == 3 * 5 * 5 * 6) is (products == "dense")


def test_sums_of_spikes_of_one_height_are_multi_level_spikes():
    def summed(net, x):
        return net.next(x + x.flip(2) + net.other(x))

    for threshold, arithmetic in ((0.5, "accumulate"), (0.7, "multiply-accumulate")):
        other = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
        body = Body(summed, next=nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()), other=other)
        heights = {"act": 0.5, "other.1": threshold, "next.1": 1.0}
        heights = {name: torch.tensor([height]) for name, height in heights.items()}
        snn = convert_model(insert_qcfs(body.eval(), levels=8, thresholds=heights))
        images = torch.randn(2, 3, 8, 8)
        audits = [snn.audit(images, timesteps=6, chunk=chunk) for chunk in (1, 4, 6)]
        rows = [by_name(audit)["next.0"] for audit in audits]
        assert {row.arithmetic for row in rows} == {arithmetic}
        assert {row.count for row in rows} == {rows[0].count}
        if arithmetic == "accumulate":
            assert rows[0].input == "multi-level spikes"


class Mixer(nn.Module):
    """A module of the user's own, with a weight layer, a product and something unknown inside."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):  # [B, C, H, W]
        tokens = torch.special.bessel_j0(self.inner(x.flatten(2).transpose(1, 2)))
        return (tokens @ tokens.transpose(1, 2)).softmax(-1)


def test_a_module_of_the_user_s_own_is_looked_into():
    model = Body(lambda net, x: net.mix(x).mean(1)[:, :4, None, None], mix=Mixer()).eval()
    model = insert_qcfs(model, levels=8, threshold=1.0, leaf_modules=(Mixer,))
    snn, images = convert_model(model, leaf_modules=(Mixer,)), torch.randn(2, 3, 8, 8)
    (said,) = [row for row in snn.report.rows if row.operation == "Mixer"]
    assert (said.input, said.arithmetic) == ("analog", "other")
    audit = snn.audit(images, timesteps=3, chunk=2)
    found = [row for row in audit.rows if row.operation == "Mixer"]
    assert [(row.arithmetic, row.weights, row.count) for row in found] == [
        ("multiply-accumulate", True, 3 * 64 * 4 * 4),
        ("multiply-accumulate", False, 3 * 64 * 64 * 4),
        ("other", False, 3 * (64 * 64 + 64 * 4)),  # softmax, and the bias of the layer
    ]
    assert list(audit.totals.uncounted) == ["special_bessel_j0"]


def test_a_fused_attention_counts_like_its_parts():
    def fused(q, k):
        return F.scaled_dot_product_attention(q.unsqueeze(1), k.unsqueeze(1), k.unsqueeze(1))[:, 0]

    images, audits = torch.randn(2, 6, 4), []
    for attention in ("accumulated", "per-step"):
        snn = converted(Attention(fused), attention=attention)
        rows = [r for r in snn.audit(images, timesteps=3).rows if "attention" in r.operation]
        audits.append([(row.input, row.arithmetic) for row in rows])
    dense = ("analog", "multiply-accumulate")
    assert audits[0] == [dense, dense]
    assert audits[1] == [
        ("spikes {0,s}", "accumulate"),
        ("spikes {0,s} with analog", "accumulate"),
    ]


# ---- faults that were ---------------------------------------------------------------------------


def share(snn, images, steps):
    record = evaluate(snn, [(images, torch.zeros(len(images)).long())], timesteps=steps)
    return record["spike_driven_share"]


def test_the_share_is_the_evaluator_s_however_the_network_was_used_before():
    model, images = example("swin_nano_bn")
    snn = converted(model)
    snn(images, timesteps=32)
    assert snn.report.spike_driven_share is None
    assert snn.audit(images, timesteps=32).spike_driven_share == share(snn, images, 32)


@pytest.mark.parametrize(
    "body",
    [
        lambda net, x: net.next(x.detach()),
        lambda net, x: net.next(torch.hstack([x, x])[:, :4]),
        lambda net, x: net.next(x.swapdims(2, 3)),
        lambda net, x: net.next(x * 0.5),
        lambda net, x: net.next(torch.einsum("bchw->bcwh", x)),
    ],
)
def test_a_view_of_spikes_in_front_of_a_convolution_is_spikes(body):
    snn = converted(Body(body, next=nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())))
    images = torch.randn(2, 3, 8, 8)
    assert by_name(snn.report)["next.0"].arithmetic == "accumulate"
    audit = snn.audit(images, timesteps=4)
    assert by_name(audit)["next.0"].arithmetic == "accumulate"
    assert audit.spike_driven_share == share(snn, images, 4) > 0.5


@pytest.mark.parametrize(
    "equation, axes",
    [
        ("bnd,bmd->bnm", (5, 5, 6)),
        ("bnd,bmd->bmn", (5, 5, 6)),
        ("bnd,bne->bde", (5, 6, 6)),
    ],
)
def test_an_einsum_counts_as_the_product_that_it_is(equation, axes):
    model = Attention(lambda q, k: torch.einsum(equation, q, k))
    snn, images = converted(model, products="dense"), torch.randn(2, 5, 4)
    (row,) = [r for r in snn.audit(images, timesteps=3).rows if r.operation == "einsum"]
    assert row.count == 3 * axes[0] * axes[1] * axes[2]
    meetings = [0]

    def loop(node, module, args, kwargs, output, clock):
        if node.name == "einsum":  # every pair of elements that is multiplied
            q, k = ((x != 0).double() for x in args[1:])
            meetings[0] += int(torch.einsum(equation, q, k).sum())

    snn = converted(model, attention="per-step")
    with snn.observe(loop):
        snn(images, timesteps=3)
    (row,) = [r for r in snn.audit(images, timesteps=3).rows if r.operation == "einsum"]
    assert row.arithmetic == "accumulate" and row.count == meetings[0] / 2 > 0


@pytest.mark.parametrize("sent", [lambda x: x / 2, lambda x: x / 2 * (1 + 2 * (x.cumsum(-1) % 2))])
@pytest.mark.parametrize("neuron", SPIKES)
def test_what_is_no_multiple_of_a_spike_is_no_spike(neuron, sent):
    snn, images = converted(Net(), neuron=neuron), torch.randn(2, 3, 8, 8)
    snn.sites["act1"].neuron.register_forward_hook(lambda module, args, out: sent(out))
    row = by_name(snn.audit(images, timesteps=4))["spikes"]
    assert (row.input, row.arithmetic) == ("analog", "multiply-accumulate")
    assert row.count == 4 * 6 * 8 * 8 * 18


def readers(model, snn, images):
    """Everything that looks at a converted network."""
    loader = [(images, torch.zeros(len(images)).long())]
    return {
        "report": lambda: str(snn.report),
        "audit": lambda: str(snn.audit(images, timesteps=3)),
        "evaluate": lambda: evaluate(snn, loader, timesteps=3, ann=model),
        "observe": lambda: observe(snn, images, 3, model),
        "layer_errors": lambda: layer_errors(snn, model, images, 3),
    }


@pytest.mark.parametrize("reader", ["report", "audit", "evaluate", "observe", "layer_errors"])
def test_looking_changes_nothing(reader):
    torch.manual_seed(0)
    model = insert_qcfs(Net().eval(), levels=8, threshold=1.0, mask=0.5)
    snn, images, calls = convert_model(model), torch.randn(2, 3, 8, 8), []
    snn.network.head.train()
    with snn.record(membrane=True) as spikes, snn.observe(lambda node, *_: calls.append(node)):
        snn(images, timesteps=4, chunk=2)
        state = (
            {name: (x.clone(), spikes.membrane[name].clone()) for name, x in spikes.items()},
            len(calls),
            dict(snn.info),
            [module.training for module in snn.modules()],
            [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in snn.modules()],
            {name: sorted(vars(module)) for name, module in snn.named_modules()},
        )
        readers(model, snn, images)[reader]()
        recorded, *rest = state
        assert sum(int(x.abs().sum()) for x in spikes.values()) > 0
        for name, (sent, membrane) in recorded.items():
            assert torch.equal(spikes[name], sent)
            assert torch.equal(spikes.membrane[name], membrane)
        assert rest == [
            len(calls),
            dict(snn.info),
            [module.training for module in snn.modules()],
            [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in snn.modules()],
            {name: sorted(vars(module)) for name, module in snn.named_modules()},
        ]
    assert not any("_spikeswap_tag" in vars(p) for p in (*snn.parameters(), *snn.buffers(), images))


def test_a_report_is_of_the_moment_at_which_it_was_asked_for(snn):
    report = snn.report
    snn.info["timesteps"] = 77
    assert report.info["timesteps"] is None and snn.report.info["timesteps"] == 77


def test_the_report_as_a_dictionary(snn):
    audit = snn.audit(torch.randn(1, 3, 8, 8), timesteps=2)
    for report in (snn.report.as_dict(), audit.as_dict()):
        assert {"name", "operation", "input", "arithmetic", "when", "count"} <= report["rows"][
            0
        ].keys()
        assert isinstance(report["converges"], str)
    assert snn.report.as_dict()["spike_driven_share"] is None
    assert 0 < report["spike_driven_share"] < 1
