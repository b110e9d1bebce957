"""Rate coding fitted to data: what the step-wise bias keeps, and what it refuses."""

import logging

import pytest
import torch
from torch import nn

import spikeswap
from spikeswap.convert import clipped, convert_model, insert_qcfs
from spikeswap.evaluate import evaluate
from spikeswap.models import create_model
from spikeswap.neurons import ClippedReLU

SWIN = {"patch_size": 2, "embed_dim": 8, "depths": (2, 1), "num_heads": (2, 2), "window_size": 4}
VGG = {"stages": ((4,), (6,)), "hidden": 8}


@pytest.fixture
def digits():
    return torch.rand(12, 1, 16, 16, dtype=torch.double, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def qcfs(digits, settled):
    """A function: name and overrides -> QCFS network in float64, in eval mode."""

    def make(name="swin_bn", overrides=SWIN, mask=0.0, threshold=2.0):
        torch.manual_seed(1)
        model = create_model(name, num_classes=5, img_size=16, in_chans=1, **overrides)
        return insert_qcfs(
            settled(model.double(), digits), levels=16, threshold=threshold, mask=mask
        ).eval()

    return make


def fit(model, images, steps=24, **arguments):
    return convert_model(
        model, calibration=[images], calibrate="bias", calibration_steps=steps, **arguments
    )


def charges(snn, images, steps):
    """{site: charge that each step adds, [T, B, ...]}, bias included; seen from outside."""
    seen = {}

    def observe(node, module, args, kwargs, output, clock):
        if node.target in snn.sites:
            seen.setdefault(node.target, []).append(clock.split(args[0]).clone())

    with snn.observe(observe):
        snn(images, timesteps=steps)
    result = {}
    for name, chunks in seen.items():
        neuron, x = snn.sites[name].neuron, torch.cat(chunks)
        if neuron.running_input:
            total = x * torch.arange(1, steps + 1).view(-1, *[1] * (x.dim() - 1))
            x = torch.cat([total[:1], total[1:] - total[:-1]])
        result[name] = x if neuron.step_bias is None else x + neuron.step_bias.unsqueeze(1)
    return result


def pre_activations(model, images):
    """{site: what it reads in the clipped network}."""
    found = {}
    reference = clipped(model)
    for name, module in reference.named_modules():
        if isinstance(module, ClippedReLU):
            module.register_forward_hook(lambda m, i, o, name=name: found.update({name: i[0]}))
    reference(images)
    return found


@pytest.mark.parametrize("mask", [0.0, 0.75])
@pytest.mark.parametrize("name, overrides", [("swin_bn", SWIN), ("resnet18", {})])
def test_the_channel_mean_of_the_charge_is_exact_at_every_step(qcfs, digits, name, overrides, mask):
    """On the calibration batch, replayed with its masks: mean of (charge so far - t x) is 0."""
    if name == "resnet18":
        overrides = {"widths": (4, 6, 8, 8)}
    model = qcfs(name, overrides, mask=mask)
    snn = fit(model, digits)
    sites = snn.info["calibration"]["bias_sites"]
    assert sites, "both have sites that read a residual stream"
    expected = pre_activations(model, digits)
    found = charges(snn, digits, 24)
    steps = torch.arange(1, 25, dtype=torch.double)
    for site in sites:
        x = expected[site].detach()
        drift = found[site].cumsum(0) - steps.view(-1, *[1] * x.dim()) * x
        others = [0] + [
            i for i in range(1, x.dim()) if i != (1 if name == "resnet18" else x.dim() - 1)
        ]
        means = drift.mean([i + 1 for i in others])
        assert means.shape == (24, x.shape[1 if name == "resnet18" else -1])
        assert means.abs().max() < 1e-9, site


def test_it_is_better_than_plain_on_other_images(qcfs, relative_error):
    model = qcfs()
    make = torch.Generator().manual_seed(11)
    seen, unseen = (torch.rand(n, 1, 16, 16, dtype=torch.double, generator=make) for n in (32, 24))
    target = clipped(model)(unseen).detach()
    plain, fitted = convert_model(model), fit(model, seen, 32)
    errors = [relative_error(snn(unseen, timesteps=32)[-1], target) for snn in (plain, fitted)]
    assert errors[1] < 0.6 * errors[0]


def test_chunks_batches_and_the_disk_change_nothing(qcfs, digits, tmp_path):
    snn = fit(qcfs(mask=0.5), digits, seed=4)
    whole = snn(digits, timesteps=30)
    torch.testing.assert_close(snn(digits, timesteps=30, chunk=7), whole, rtol=0, atol=1e-8)
    parts = [snn(digits[:5], timesteps=30), snn(digits[5:], timesteps=30, first_index=5)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-8)
    torch.testing.assert_close(snn(digits, timesteps=9), whole[:9], rtol=0, atol=1e-8)
    snn.save(tmp_path)
    loaded = spikeswap.load(tmp_path)
    assert torch.equal(loaded(digits, timesteps=30, chunk=7), snn(digits, timesteps=30, chunk=7))
    assert loaded.info["calibration"] == snn.info["calibration"]


def test_spikes_stay_binary_and_the_report_says_what_was_fitted(qcfs, digits):
    snn = fit(qcfs(mask=0.5), digits)
    with snn.record() as spikes:
        snn(digits, timesteps=6)
    assert all(set(s.unique().tolist()) <= {0, 1} for s in spikes.values())
    made = snn.info["calibration"]
    tables = {n: s.neuron.step_bias for n, s in snn.sites.items() if s.neuron.step_bias is not None}
    assert list(tables) == made["bias_sites"]
    assert made["bias_parameters"] == sum(t.numel() for t in tables.values()) > 0
    assert all(len(t) == made["steps"] == 24 for t in tables.values())
    text = str(snn.report)
    for words in ("12 images", "24 steps", str(made["bias_parameters"]), "weight layers still see"):
        assert words in text


def test_more_steps_than_fitted_work_and_say_so_once(qcfs, digits, caplog):
    snn = fit(qcfs(), digits, steps=4)
    with caplog.at_level(logging.WARNING, logger="spikeswap"):
        first = snn(digits, timesteps=4)
        assert not caplog.records
        longer = snn(digits, timesteps=9)
        snn(digits, timesteps=9)
    torch.testing.assert_close(longer[:4], first, rtol=0, atol=1e-8)
    assert len(caplog.records) == 1
    assert "fitted for 4 and ends there" in caplog.records[0].getMessage()


def test_a_network_without_a_residual_stream_gets_the_bias_everywhere_and_says_so(
    qcfs, digits, relative_error
):
    model = qcfs("vgg16", VGG)
    snn = fit(model, digits, 16)
    assert snn.info["calibration"]["bias_sites"] == list(snn.sites)
    assert "no site reads a sum of spike streams" in snn.info["calibration_text"]
    target = clipped(model)(digits).detach()
    errors = [
        relative_error(s(digits, timesteps=16)[-1], target) for s in (convert_model(model), snn)
    ]
    assert errors[1] < 0.6 * errors[0]


def test_a_dead_channel_is_no_obstacle(qcfs, digits, relative_error):
    model = qcfs("resnet18", {"widths": (4, 6, 8, 8)})
    with torch.no_grad():
        for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.weight[1], norm.bias[1] = 0.0, -1.0
    snn = fit(model, digits, 64)
    readout = snn(digits, timesteps=64)
    assert readout.isfinite().all()
    assert relative_error(readout[-1], clipped(model)(digits).detach()) < 0.1


def test_the_callers_model_is_left_as_it_was(qcfs, digits):
    model = qcfs(mask=0.5)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    hooks = sum(len(m._forward_hooks) for m in model.modules())
    fit(model, digits)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert sum(len(m._forward_hooks) for m in model.modules()) == hooks and not model.training


@pytest.mark.parametrize("steps", [None, 0, -3, 1.5, True, "8"])
def test_steps_that_mean_nothing_are_refused(qcfs, digits, steps):
    with pytest.raises(ValueError, match="calibration_steps"):
        fit(qcfs(), digits, steps)


@pytest.mark.parametrize(
    "loader, words",
    [
        ([], "no images"),
        ([torch.zeros(0, 1, 16, 16, dtype=torch.double)], "no images"),
        ([torch.full((2, 1, 16, 16), torch.nan, dtype=torch.double)], "NaN"),
        ([torch.zeros(2, 1, 20, 20, dtype=torch.double)], "20"),
        ([["text"]], "tensor"),
    ],
)
def test_images_that_cannot_serve_are_refused(qcfs, loader, words):
    with pytest.raises(ValueError, match=words):
        convert_model(qcfs(), calibration=loader, calibrate="bias", calibration_steps=8)


def test_an_unknown_method_lists_the_known_ones(qcfs, digits):
    with pytest.raises(ValueError, match="thresholds, bias"):
        convert_model(qcfs(), calibration=[digits], calibrate="biased", calibration_steps=8)


def test_the_table_counts_apart_from_the_weights(qcfs, digits):
    snn = fit(qcfs(), digits)
    loader = [(digits.float(), torch.zeros(len(digits), dtype=torch.long))]
    record = evaluate(snn.float(), loader, timesteps=4)
    made = snn.info["calibration"]
    assert record["parameters"] == sum(p.numel() for p in snn.parameters())
    assert record["calibration_parameters"] == {
        "thresholds": sum(s.threshold.numel() for s in snn.sites.values()),
        "step_bias": made["bias_parameters"],
    }
    plain = evaluate(convert_model(qcfs()).float(), loader, timesteps=4)
    assert plain["calibration_parameters"] == {"thresholds": 0, "step_bias": 0}
    assert plain["parameters"] == record["parameters"]


def test_the_bias_goes_everywhere_on_request(qcfs, digits, relative_error):
    model = qcfs(mask=0.5)
    snn = convert_model(
        model, calibration=[digits], calibrate="bias-everywhere", calibration_steps=16
    )
    assert snn.info["calibration"]["bias_sites"] == list(snn.sites)
    target = clipped(model)(digits).detach()
    errors = [
        relative_error(s(digits, timesteps=16)[-1], target) for s in (convert_model(model), snn)
    ]
    assert errors[1] < 0.6 * errors[0]
