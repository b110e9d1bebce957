"""Products of running spikes: one accumulation for each spike and output that it reaches."""

import pytest
import torch
from torch import nn

import spikeswap
from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.evaluate import evaluate
from spikeswap.neurons import Accumulate


class Attention(nn.Module):
    """Attention of two heads, layer norm, a gate for each token and one for each channel."""

    def __init__(self, dim=6, heads=2):
        super().__init__()
        self.heads, self.embed, self.norm = heads, nn.Conv2d(1, dim, 2, 2), nn.LayerNorm(dim)
        self.qkv, self.out, self.gate = (
            nn.Linear(dim, 3 * dim),
            nn.Linear(dim, dim),
            nn.Linear(dim, 1),
        )
        self.head = nn.Linear(dim, 3)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        parts = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = parts.unbind(0)
        scores = torch.einsum("bhnc,bhmc->bhnm", q, k) * 3**-0.5
        x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        x = x * self.gate(x).sigmoid()
        return self.head((x * x.mean(1, keepdim=True).tanh()).mean(1))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return Attention().double().eval()


@pytest.fixture
def images():
    return torch.randn(3, 1, 4, 4, dtype=torch.double)


def reached(product, left, right) -> tuple[torch.Tensor, torch.Tensor]:
    """How many results each element of either operand changes, by derivatives."""
    a, b = torch.ones_like(left).requires_grad_(), torch.ones_like(right).requires_grad_()
    jacobians = torch.autograd.functional.jacobian(product, (a, b))
    return tuple(
        (j != 0).flatten(0, j.dim() - 1 - x.dim()).sum(0)
        for j, x in zip(jacobians, (a, b), strict=True)
    )


def brute_force(snn, images, timesteps) -> dict[str, int]:
    """{product: accumulations}: each spike that enters it, times what that element reaches."""
    sent, found = {}, {}

    def observe(node, module, args, kwargs, output, clock) -> None:
        if isinstance(module, Accumulate):
            sent[node] = args[0].detach()
            return
        factors = [n for n in node.all_input_nodes if n in sent]
        if len(factors) == 2 and node.op != "call_module":
            function = getattr(torch, str(node.target)) if node.op == "call_method" else node.target
            given = [a for a in args if not isinstance(a, torch.Tensor)]
            reach = reached(lambda a, b: function(*given, a, b), sent[factors[0]], sent[factors[1]])
            spikes = [(sent[n] != 0) * r for n, r in zip(factors, reach, strict=True)]
            found[node.name] = found.get(node.name, 0) + int(sum(s.sum() for s in spikes))

    with snn.observe(observe):
        snn(images, timesteps=timesteps, chunk=1)
    return found


@pytest.mark.parametrize("mask", [0.0, 0.5])
@pytest.mark.parametrize("neuron", ["multi", "stbif"])
def test_every_product_counts_what_its_spikes_reach(model, images, neuron, mask):
    snn = convert_model(model, neuron=neuron, calibration=[images], levels=8, mask=mask)
    expected = brute_force(snn, images, 9)
    assert len(expected) == 4  # einsum, matmul and two gates
    totals = snn.audit(images, timesteps=9).totals
    rows = {op.name: op for op in totals.operations if op.kind == "product"}
    found = {name: round(op.acs * 3) for name, op in rows.items()}
    assert found == {name: expected[name.strip("()")] for name in found} and len(found) == 4
    assert all(op.increments and op.macs == 0 for op in rows.values())
    assert totals.acs == pytest.approx(sum(op.acs for op in totals.operations))


def counts(snn, images, **how):
    loader = [(images, torch.arange(3) % 3)]
    record = evaluate(snn, loader, timesteps=8, **how)
    return {k: record[k] for k in ("macs", "acs", "synaptic_operations", "energy_to_quantised")}


def test_no_dense_multiplication_is_left_but_the_image_layer(model, images):
    found = {}
    for products in ("increments", "dense"):
        snn = convert_model(model, neuron="multi", calibration=[images], products=products)
        found[products] = counts(snn, images), snn(images, timesteps=8)
    image_layer = 4 * 4 * 6  # 2x2 pixels to 6 channels at 4 places
    (new, one), (old, two) = found["increments"], found["dense"]
    scores, values = 2 * 4 * 4 * 3, 2 * 4 * 3 * 4
    assert new["macs"] == image_layer and old["macs"] == image_layer + 8 * (scores + values)
    assert new["acs"] > old["acs"] and torch.equal(one, two)
    assert new["energy_to_quantised"] < old["energy_to_quantised"]


def test_counts_do_not_depend_on_chunk_and_batch(model, images):
    snn = convert_model(model, neuron="multi", calibration=[images])
    whole = counts(snn, images)
    assert counts(snn, images, chunk=3) == whole
    record = evaluate(snn, [(x, torch.zeros(1).long()) for x in images.split(1)], timesteps=8)
    assert {k: record[k] for k in whole} == pytest.approx(whole)


def test_masks_save_at_the_products(model, images):
    """A frozen mask in front of q, k or the scores drops what would be accumulated."""
    net = insert_qcfs(model, 8, 1.0, sites="all", example_inputs=images)
    found = []
    for mask in (0.0, 0.5, 0.75):
        snn = convert_model(net, neuron="multi", mask=mask)
        totals = snn.audit(images, timesteps=8).totals
        found.append(sum(op.acs for op in totals.operations if "einsum" in op.name))
    assert found[0] > 1.3 * found[1] > 1.3 * 1.3 * found[2] > 0


def test_saved_conversions_count_the_same_and_older_ones_as_before(model, images, tmp_path):
    snn = convert_model(model, neuron="multi", calibration=[images])
    snn.save(tmp_path)
    loaded = spikeswap.load(tmp_path)
    assert loaded.info.products == "increments" and loaded.info.sites == "all"
    assert counts(loaded, images) == counts(snn, images)
    assert torch.equal(loaded(images, timesteps=8), snn(images, timesteps=8))
    loaded.info.products = None
    assert counts(loaded, images)["macs"] > counts(snn, images)["macs"]


def test_the_static_report_says_what_the_audit_counts(model, images):
    snn = convert_model(model, neuron="multi", calibration=[images])
    told = {r.name: (r.arithmetic, r.input) for r in snn.report.rows}
    counted = {r.name: (r.arithmetic, r.input) for r in snn.audit(images, timesteps=3).rows}
    for name, (arithmetic, words) in told.items():
        if arithmetic != "other":
            assert counted[name][0] == arithmetic
            assert counted[name][1].endswith("by increments") == words.endswith("by increments")
    assert sum(words.endswith("by increments") for _, words in told.values()) == 4
