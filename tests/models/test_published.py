"""Official checkpoints of MST and QCFS: key lists, strict loading, and the published numbers."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spikeswap.convert import clipped, convert_model, insert_qcfs
from spikeswap.models import create_model, load_published
from spikeswap.neurons import QCFS

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
_spec = importlib.util.spec_from_file_location("fill_rule", GOLDEN / "fill_rule.py")
fill_rule = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fill_rule)

TINY = {"img_size": 32, "embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4}
VARIANTS = {  # fixture: name and arguments of the model, parameters (facts 2.5 and 3.2)
    "mst_swint_imagenet": ("mst_swin_t", {"num_classes": 1000}, 28_332_638),
    "mst_swint_cifar10": ("mst_swin_t", {"num_classes": 10, "dataset": "cifar"}, 27_527_168),
    "mst_swint_cifar100": ("mst_swin_t", {"num_classes": 100, "dataset": "cifar"}, 27_596_378),
    "mst_tiny_imagenet": ("mst", {"num_classes": 10, **TINY}, 79_672),
    "mst_tiny_cifar10": ("mst", {"num_classes": 10, "dataset": "cifar", **TINY}, None),
    "qcfs_resnet18_cifar10": ("resnet18", {"num_classes": 10}, 11_173_979),
    "qcfs_resnet20_img16": ("resnet20", {"num_classes": 10, "img_size": 16}, 272_493),
    "qcfs_vgg16_cifar10": ("vgg16", {"num_classes": 10}, 33_646_681),
}
SMALL = ["mst_tiny_imagenet", "mst_tiny_cifar10", "qcfs_resnet20_img16"]


def keys_of(fixture: str) -> list[dict]:
    return json.loads((GOLDEN / fixture / "keys.json").read_text())


def build(fixture: str) -> nn.Module:
    name, arguments, _ = VARIANTS[fixture]
    return create_model(name, **arguments)


def is_threshold(key: str) -> bool:
    return key.rpartition(".")[2] in ("up", "thresh")


def checkpoint(fixture: str, threshold: float = 2.0, gain: float = 1.0) -> dict[str, torch.Tensor]:
    """Weights by the fill rule; constants of the layout as the published files hold them."""
    model = build(fixture).state_dict()
    state = {}
    for entry in keys_of(fixture):
        value = fill_rule.fill_one(entry["key"], entry["shape"], entry["dtype"], gain, threshold)
        state[entry["key"]] = model[entry["key"]] if value is None else torch.from_numpy(value)
    return state


@pytest.mark.parametrize("fixture", VARIANTS)
def test_state_dict_has_the_published_keys_shapes_and_types(fixture):
    expected = {
        e["key"]: (tuple(e["shape"]), e["dtype"])
        for e in keys_of(fixture)
        if not is_threshold(e["key"])
    }
    model = build(fixture)
    found = {
        key: (tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for key, value in model.state_dict().items()
    }
    assert found == expected
    sites = [name for name, m in model.named_modules() if isinstance(m, nn.ReLU)]
    thresholds = [e["key"] for e in keys_of(fixture) if is_threshold(e["key"])]
    assert {key.rpartition(".")[0] for key in thresholds} == set(sites)
    parameters = sum(p.numel() for p in model.parameters()) + len(sites)
    assert VARIANTS[fixture][2] in (None, parameters)


@pytest.mark.parametrize(
    "name, img_size, classes, parameters",
    [
        ("vgg16", 32, 100, 34_015_411),
        ("vgg16", 224, 1000, 138_366_007),
        ("resnet18", 32, 100, 11_220_149),
        ("resnet18", 224, 1000, 11_681_849),
        ("resnet20", 32, 100, 278_343),
        ("resnet20", 224, 1000, 336_843),
        ("resnet34", 32, 10, 21_282_155),
        ("resnet34", 32, 100, 21_328_325),
        ("resnet34", 224, 1000, 21_790_025),
    ],
)
def test_parameters_of_the_other_published_variants(name, img_size, classes, parameters):
    with torch.device("meta"):
        model = create_model(name, img_size=img_size, num_classes=classes)
    sites = sum(isinstance(m, nn.ReLU) for m in model.modules())
    assert sum(p.numel() for p in model.parameters()) + sites == parameters


# -- the published numbers ---------------------------------------------------------------------


def golden(fixture: str, levels: int):
    """Loaded QCFS network, arrays, spec."""
    spec = json.loads((GOLDEN / fixture / "spec.json").read_text())
    state = checkpoint(fixture, spec["threshold"], spec["weight_gain"])
    assert fill_rule.digest({k: v.numpy() for k, v in state.items()}) == spec["weights_sha256"]
    model = insert_qcfs(build(fixture).eval(), levels=levels, threshold=1.0)
    load_published(model, state)
    return model, np.load(GOLDEN / fixture / "io.npz")


def unpack(arrays, name: str) -> torch.Tensor:
    """Recorded spikes [T, B, ...] as integers."""
    shape = arrays[f"spk_shape:{name}"]
    bits = np.unpackbits(arrays[f"spk_packed:{name}"])[: int(np.prod(shape))]
    return torch.from_numpy(bits.reshape(tuple(shape)))


def close(found, expected, tolerance):
    torch.testing.assert_close(found.detach(), torch.from_numpy(expected), rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def mst():
    return golden("mst_tiny_imagenet", 16)


@pytest.fixture(scope="module")
def resnet():
    return golden("qcfs_resnet20_img16", 8)


@pytest.mark.parametrize("which", ["mst", "resnet"])
def test_ann_logits(which, request):
    model, arrays = request.getfixturevalue(which)
    x = torch.from_numpy(arrays["x"])
    close(model.float()(x), arrays["ann_logits"], 1e-4)
    close(model.double()(x.double()), arrays["ann_logits_f64"], 1e-8)


def test_ann_activations_of_mst(mst):
    model, arrays = mst
    names = [key.removeprefix("ann_out:") for key in arrays if key.startswith("ann_out:")]
    assert len(names) == 6
    # modules that hold others are gone from the graph: their outputs are these nodes' outputs
    kept = {}
    for name in ("norm", "patch_embed.proj_if"):
        model.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: kept.update({name: out})
        )
    model.double()(torch.from_numpy(arrays["x"]).double())
    close(kept["norm"].float(), arrays["ann_out:norm"], 1e-4)
    close(kept["patch_embed.proj_if"].float(), arrays["ann_out:patch_embed"], 1e-4)


def test_constant_buffers_of_mst(mst):
    _, arrays = mst
    model = build("mst_tiny_imagenet")
    buffers = dict(model.named_buffers())
    names = [key.removeprefix("buf:") for key in arrays if key.startswith("buf:")]
    assert len(names) == 5
    for name in names:
        assert torch.equal(buffers[name], torch.from_numpy(arrays[f"buf:{name}"])), name


def test_spiking_mst_per_step_at_every_step(mst):
    """Rate coding, per-step attention, no masks: step logits, their sum, and recorded spikes."""
    model, arrays = mst
    snn = convert_model(model.double(), neuron="if", attention="per-step", mask=0)
    with snn.record() as spikes:
        readout = snn(torch.from_numpy(arrays["x"]).double(), timesteps=32)
    sums = readout * torch.arange(1, 33).view(-1, 1, 1)
    close(sums, arrays["snn_cum_logits_f64"], 1e-7)
    steps = torch.diff(sums, dim=0, prepend=torch.zeros_like(sums[:1]))
    close(steps, arrays["snn_step_logits_f64"], 1e-8)
    names = [key.removeprefix("spk_packed:") for key in arrays if key.startswith("spk_packed:")]
    assert len(names) == 4
    for name in names:
        expected = unpack(arrays, name)
        assert torch.equal(spikes[name].reshape(expected.shape), expected.to(torch.int8)), name


def test_spiking_resnet_at_every_step(resnet):
    model, arrays = resnet
    snn = convert_model(model.double(), neuron="if")
    with snn.record("conv1.2", "conv4_x.2.act") as spikes:
        readout = snn(torch.from_numpy(arrays["x"]).double(), timesteps=16, chunk=4)
    close(readout, arrays["snn_mean_logits_T1_16_f64"], 1e-8)
    sums = readout * torch.arange(1, 17).view(-1, 1, 1)
    steps = torch.diff(sums, dim=0, prepend=torch.zeros_like(sums[:1]))
    close(steps, arrays["snn_step_logits_f64"], 1e-8)
    for name, found in spikes.items():
        assert torch.equal(found, unpack(arrays, name).to(torch.int8)), name


def test_levels_of_resnet(resnet):
    model, arrays = resnet
    kept = {}
    for name in ("conv1.2", "conv4_x.2.act"):
        model.get_submodule(name).register_forward_hook(
            lambda site, _i, out, name=name: kept.update({name: out / site.unit})
        )
    model.double()(torch.from_numpy(arrays["x"]).double())
    for name, found in kept.items():
        assert torch.equal(
            found.round().to(torch.uint8), torch.from_numpy(arrays[f"ann_level:{name}"])
        ), name


def test_per_step_mst_stays_away_from_its_clipped_network_and_accumulated_does_not(mst):
    """Facts 2.3: the gap of the published conversion is 0.37 of logits of size 1.6 at T = 1024."""
    model, arrays = mst
    x = torch.from_numpy(arrays["x"]).double()[:1]
    expected = clipped(model.double())(x).detach()
    gaps = {
        attention: (convert_model(model, attention=attention)(x, timesteps=256)[-1] - expected)
        .abs()
        .max()
        .item()
        for attention in ("per-step", "accumulated")
    }
    assert gaps["per-step"] > 0.3 > 5 * gaps["accumulated"]


# -- loading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fixture", SMALL)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"model": s, "epoch": 3, "optimizer": {"state": {}}},
        lambda s: {"state_dict": s},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {"model": {f"module.{k}": v for k, v in s.items()}},
    ],
)
def test_wrappers_and_prefixes(fixture, wrap, tmp_path):
    state = checkpoint(fixture, threshold=1.25)
    torch.save(wrap(state), tmp_path / "published.pth")
    for source in (wrap(state), tmp_path / "published.pth", str(tmp_path / "published.pth")):
        model = insert_qcfs(build(fixture))
        unused = load_published(model, source)
        assert all(m.threshold.item() == 1.25 for m in model.modules() if isinstance(m, QCFS))
        found = model.state_dict()
        loaded = [k for k in state if k in found and k not in unused]
        assert loaded and all(torch.equal(found[k], state[k]) for k in loaded)
        named = set(loaded) | set(unused) | {k for k in state if is_threshold(k)}
        assert named == set(state), "every key is used or named as unused"
        assert {k.rpartition(".")[2] for k in unused} <= {
            "attn_mask",
            "relative_position_index",
            "num_batches_tracked",
        }


def test_a_config_object_in_the_file_is_not_run(tmp_path):
    from yacs.config import CfgNode

    state = checkpoint("mst_tiny_imagenet")
    torch.save(
        {"model": state, "config": CfgNode({"A": {"B": 1}}), "max_accuracy": 77.0},
        tmp_path / "mst.pth",
    )
    load_published(insert_qcfs(build("mst_tiny_imagenet")), tmp_path / "mst.pth")


def test_before_insert_qcfs_weights_load_and_thresholds_are_refused():
    state = checkpoint("qcfs_resnet20_img16")
    plain = build("qcfs_resnet20_img16")
    with pytest.raises(ValueError, match="insert_qcfs"):
        load_published(plain, state)
    weights = {k: v for k, v in state.items() if not is_threshold(k)}
    load_published(plain, weights)
    assert torch.equal(plain.fc.weight, weights["fc.weight"])
    quantised = insert_qcfs(build("qcfs_resnet20_img16"), threshold=3.0)
    load_published(quantised, weights)
    assert all(m.threshold.item() == 3.0 for m in quantised.modules() if isinstance(m, QCFS))


@pytest.mark.parametrize(
    "rename", [lambda k: k.replace("act.thresh", "relu.up"), lambda k: k.replace("thresh", "up")]
)
def test_old_names_of_thresholds(rename):
    """Facts 3.2: a block's `relu.up` became `act.thresh`, every other `up` became `thresh`."""
    state = {rename(k): v for k, v in checkpoint("qcfs_resnet20_img16", threshold=1.5).items()}
    model = insert_qcfs(build("qcfs_resnet20_img16"))
    load_published(model, state)
    assert all(m.threshold.item() == 1.5 for m in model.modules() if isinstance(m, QCFS))


def missing(state):
    del state["conv1.0.weight"]
    return "conv1.0.weight is missing"


def left_over(state):
    state["extra.weight"] = torch.ones(3)
    return "extra.weight has no place"


def another_shape(state):
    state["fc.weight"] = torch.ones(100, 64)
    return r"fc.weight has shape \(100, 64\)"


def threshold_missing(state):
    del state["conv1.2.thresh"]
    return "conv1.2"


def threshold_too_many(state):
    state["conv9.thresh"] = torch.ones(1)
    return "conv9.thresh"


def negative_threshold(state):
    state["conv1.2.thresh"] = torch.tensor([-1.0])
    return "threshold"


@pytest.mark.parametrize(
    "change",
    [missing, left_over, another_shape, threshold_missing, threshold_too_many, negative_threshold],
)
def test_what_does_not_fit_is_named_and_the_model_left_alone(change):
    state = checkpoint("qcfs_resnet20_img16")
    words = change(state)
    model = insert_qcfs(build("qcfs_resnet20_img16"))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=words):
        load_published(model, state)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_all_problems_are_told_at_once():
    state = checkpoint("qcfs_resnet20_img16")
    problems = [missing(state), left_over(state), another_shape(state)]
    with pytest.raises(ValueError) as caught:
        load_published(insert_qcfs(build("qcfs_resnet20_img16")), state)
    assert all(p.split()[0].replace("\\", "") in str(caught.value) for p in problems)


def test_another_variant_is_refused():
    with pytest.raises(ValueError, match="norm1"):
        load_published(insert_qcfs(build("mst_tiny_cifar10")), checkpoint("mst_tiny_imagenet"))


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04" + b"\0" * 100])
def test_damaged_files_are_named(content, tmp_path):
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="broken.pth"):
        load_published(build("qcfs_resnet20_img16"), path)
    with pytest.raises(ValueError, match="nothing.pth"):
        load_published(build("qcfs_resnet20_img16"), tmp_path / "nothing.pth")


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "short.pth"
    torch.save(checkpoint("qcfs_resnet20_img16"), path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="short.pth"):
        load_published(build("qcfs_resnet20_img16"), path)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"model": {}}, [1, 2], torch.ones(3)])
def test_files_without_a_state_dict_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="state dict"):
        load_published(build("qcfs_resnet20_img16"), tmp_path / "other.pth")


def test_a_pickle_that_wants_to_run_code_does_not(tmp_path):
    class Runs:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model": checkpoint("qcfs_resnet20_img16"), "evil": Runs()}, tmp_path / "evil.pth")
    model = insert_qcfs(build("qcfs_resnet20_img16"))
    try:
        load_published(model, tmp_path / "evil.pth")
    except ValueError as error:
        assert "evil.pth" in str(error)
    assert not (tmp_path / "ran").exists()
