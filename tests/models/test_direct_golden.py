"""The direct-trained networks against what the published implementations computed.

Of `grad.npz` only what is read here was kept: all eval-mode gradients, in train mode the vectors.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spikeswap.models import create_model
from spikeswap.models.published_direct import direct_state_dict

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
_spec = importlib.util.spec_from_file_location("fill_rule", GOLDEN / "fill_rule.py")
fill_rule = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fill_rule)

TINY = {
    "spikingformer_tiny": ("spikingformer", {"embed_dim": 64, "depth": 2, "num_heads": 8}),
    "spikingformer_tiny_imagenet": (
        "spikingformer",
        {"embed_dim": 64, "depth": 2, "num_heads": 8, "tokenizer": "imagenet", "img_size": 64},
    ),
    "sdt_tiny": ("sdt", {"embed_dim": 64, "depth": 2}),
    "sdt_tiny_imagenet": (
        "sdt",
        {"embed_dim": 64, "depth": 2, "img_size": 64, "pooling_stat": "1111"},
    ),
    "spikingresformer_tiny": (
        "spikingresformer",
        {
            "widths": (16, 32, 64),
            "num_heads": (1, 2, 4),
            "group_size": 16,
            "depths": (1, 1, 1),
            "stem": "imagenet",
            "img_size": 64,
        },
    ),
    "spikingresformer_ti_img64": ("spikingresformer_ti", {"num_classes": 1000, "img_size": 64}),
}
TRAINED = [name for name in TINY if not name.startswith("spikingresformer")]
_K = {"num_classes": 1000}
_GESTURE = {"num_classes": 11, "img_size": 128, "in_chans": 2, "pooling_stat": "0111"}
# folder: (name, arguments, parameters, those that are used) of every published variant
PUBLISHED = {
    "spikingformer_8_384_imagenet": ("spikingformer_8_384", _K, 16828312, 16816024),
    "spikingformer_8_512_imagenet": ("spikingformer_8_512", _K, 29705768, 29689384),
    "spikingformer_8_768_imagenet": ("spikingformer_8_768", _K, 66363208, 66338632),
    "spikingformer_cifar10_4_256": (
        "spikingformer_4_384",
        {"embed_dim": 256, "num_heads": 8},
        4156202,
        4152106,
    ),
    "spikingformer_cifar10_2_384": ("spikingformer_4_384", {"depth": 2}, 5765818, 5762746),
    "spikingformer_cifar10_4_384": ("spikingformer_4_384", {}, 9326266, 9320122),
    "spikingformer_cifar100_4_256": (
        "spikingformer_4_384",
        {"num_classes": 100, "embed_dim": 256, "num_heads": 8},
        4179332,
        4175236,
    ),
    "spikingformer_cifar100_2_384": (
        "spikingformer_4_384",
        {"num_classes": 100, "depth": 2, "num_heads": 8},
        5800468,
        5797396,
    ),
    "spikingformer_cifar100_4_384": (
        "spikingformer_4_384",
        {"num_classes": 100, "num_heads": 8},
        9360916,
        9354772,
    ),
    "spikingformer_cifar10dvs_2_256": ("spikingformer_2_256_dvs", {}, 2568714, 2566666),
    "spikingformer_gesture_2_256": (
        "spikingformer_2_256_dvs",
        {"num_classes": 11},
        2568971,
        2566923,
    ),
    "sdt_8_384_imagenet": ("sdt_8_384", _K, 16816536, 16816024),
    "sdt_6_512_imagenet": ("sdt_6_512", _K, 23373736, 23373352),
    "sdt_8_512_imagenet": ("sdt_8_512", _K, 29689896, 29689384),
    "sdt_10_512_imagenet": ("sdt_10_512", _K, 36006056, 36005416),
    "sdt_8_768_imagenet": ("sdt_8_768", _K, 66339144, 66338632),
    "sdt_cifar10_2_256": ("sdt_2_256", {}, 2567082, 2566954),
    "sdt_cifar10_2_512": ("sdt_2_512", {}, 10233546, 10233418),
    "sdt_cifar100_2_256": ("sdt_2_256", {"num_classes": 100}, 2590212, 2590084),
    "sdt_cifar100_2_512": ("sdt_2_512", {"num_classes": 100}, 10279716, 10279588),
    "sdt_cifar10dvs_2_256": ("sdt_2_256_dvs", {}, 2566794, 2566666),
    "sdt_gesture_2_256_t10": ("sdt_2_256", dict(_GESTURE, timesteps=10), 2567051, 2566923),
    "sdt_gesture_2_256_t16": ("sdt_2_256", dict(_GESTURE, timesteps=16), 2567051, 2566923),
    "sdt_tiny_dvs_tet": (
        "sdt",
        {"embed_dim": 64, "in_chans": 2, "dvs_mode": True, "tet": True},
        163722,
        163594,
    ),
    "spikingresformer_ti_imagenet": ("spikingresformer_ti", _K, 11180992, 11180992),
    "spikingresformer_s_imagenet": ("spikingresformer_s", _K, 17813824, 17813824),
    "spikingresformer_m_imagenet": ("spikingresformer_m", _K, 35601472, 35601472),
    "spikingresformer_l_imagenet": ("spikingresformer_l", _K, 60375680, 60375680),
    "spikingresformer_cifar10": ("spikingresformer_cifar", {}, 10793152, 10793152),
    "spikingresformer_cifar100_shapes": (
        "spikingresformer_cifar",
        {"num_classes": 100},
        10827712,
        10827712,
    ),
    "spikingresformer_cifar10dvs_shapes": (
        "spikingresformer_cifar",
        {"timesteps": 16, "img_size": 64},
        10793152,
        10793152,
    ),
    "spikingresformer_dvsgesture_shapes": (
        "spikingresformer_dvsg",
        {"num_classes": 11},
        2709830,
        2709830,
    ),
    "spikingresformer_dvsg_img16": (
        "spikingresformer_dvsg",
        {"num_classes": 11, "img_size": 16},
        2709830,
        2709830,
    ),
    "spikingresformer_s_transfer_cifar10_shapes": (
        "spikingresformer_s",
        {"img_size": 128},
        17306944,
        17306944,
    ),
}


def read_json(folder, name):
    return json.loads((GOLDEN / folder / name).read_text(encoding="utf-8"))


def filled(folder, dtype):
    """The tiny variant of a folder with the fixture's weights, loaded as a published file."""
    name, arguments = TINY[folder]
    model = create_model(name, **{"num_classes": 10, **arguments}).to(dtype)
    spec = read_json(folder, "spec.json")
    arrays = fill_rule.fill(read_json(folder, "keys.json"), spec["weight_gain"])
    assert fill_rule.digest(arrays) == spec["weights_sha256"]
    raw = {"state_dict": {f"module.{key}": torch.from_numpy(a) for key, a in arrays.items()}}
    state_dict, unused = direct_state_dict(model, raw)
    model.load_state_dict(state_dict)
    assert unused == model.unused_keys()
    return model


def outputs_of(model, names):
    """A dictionary that holds the output of each named module after a call."""
    seen = {}
    modules = dict(model.named_modules())
    for name in names:
        modules[name].register_forward_hook(
            lambda module, args, out, name=name: seen.update({name: out.detach()})
        )
    return seen


@pytest.mark.parametrize("folder", PUBLISHED)
def test_keys_shapes_and_counts_are_published(folder):
    name, arguments, parameters, used = PUBLISHED[folder]
    with torch.device("meta"):
        model = create_model(name, **{"num_classes": 10, **arguments})
    expected = [(row["key"], tuple(row["shape"])) for row in read_json(folder, "keys.json")]
    assert [(key, tuple(value.shape)) for key, value in model.state_dict().items()] == expected
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model.parameter_counts() == {"all": parameters, "used": used}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("folder", TINY)
def test_logits_and_spikes(folder, dtype):
    model = filled(folder, dtype).eval()
    arrays = np.load(GOLDEN / folder / "io.npz")
    spikes = {key[4:]: arrays[key] for key in arrays.files if key.startswith("spk:")}
    if (GOLDEN / folder / "trace.npz").exists():
        trace = np.load(GOLDEN / folder / "trace.npz")
        for key in trace.files:
            if key.startswith("spikes_packed/"):
                neuron = key.removeprefix("spikes_packed/")
                shape = trace[f"spikes_shape/{neuron}"]
                spikes[neuron] = np.unpackbits(trace[key])[: np.prod(shape)].reshape(shape)
    seen = outputs_of(model, spikes)
    with torch.no_grad():
        readout = model(torch.from_numpy(arrays["x"]).to(dtype)).numpy()
    exact = dtype == torch.float64
    if "logits" in arrays.files:
        last = arrays["logits_float64" if exact else "logits"]
    else:
        steps = arrays["logits_steps_f64" if exact else "logits_steps"]
        last = steps.mean(0)
        np.testing.assert_allclose(readout[0], steps[0], rtol=0, atol=1e-8 if exact else 1e-4)
    np.testing.assert_allclose(readout[-1], last, rtol=0, atol=1e-8 if exact else 1e-4)
    for neuron, expected in spikes.items():
        assert np.array_equal(seen[neuron].numpy(), expected), neuron


@pytest.mark.parametrize("folder", [name for name in TINY if "ti_img64" not in name])
def test_analog_outputs(folder):
    model = filled(folder, torch.float32).eval()
    file = "io.npz" if folder.startswith("spikingresformer") else "trace.npz"
    arrays = np.load(GOLDEN / folder / file)
    expected = {key[4:]: arrays[key] for key in arrays.files if key[:4] in ("out/", "out:")}
    seen = outputs_of(model, expected)
    with torch.no_grad():
        model(torch.from_numpy(np.load(GOLDEN / folder / "io.npz")["x"]))
    for name, values in expected.items():
        np.testing.assert_allclose(seen[name].numpy(), values, rtol=0, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("folder", TRAINED)
def test_gradients_and_running_statistics(folder, mode):
    model = filled(folder, torch.float64).train(mode == "train")
    arrays = np.load(GOLDEN / folder / "grad.npz")
    images = torch.from_numpy(np.load(GOLDEN / folder / "io.npz")["x"]).double()
    logits = model(images)[-1]
    loss = F.cross_entropy(logits, torch.from_numpy(arrays["labels"]))
    loss.backward()
    np.testing.assert_allclose(loss.item(), arrays[f"{mode}_loss"], rtol=1e-4)
    if mode == "train":
        exact = arrays["train_logits_float64"]
        np.testing.assert_allclose(logits.detach().numpy(), exact, rtol=0, atol=1e-8)
    compared = 0
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            assert name in model.unused_keys()
        elif f"{mode}_grad/{name}" in arrays.files:
            expected = arrays[f"{mode}_grad/{name}"]
            if mode == "train" and name.endswith("conv.bias"):  # in front of a BatchNorm
                assert parameter.grad.abs().max() < 1e-10, name  # the published is rounding
                continue
            difference = np.abs(parameter.grad.numpy() - expected).max()
            assert difference <= 1e-4 * np.abs(expected).max(), name
            compared += 1
    assert compared > 20
    for key in arrays.files:
        if mode == "train" and key.startswith("train_after/"):
            value = model.state_dict()[key.removeprefix("train_after/")].numpy()
            np.testing.assert_allclose(value, arrays[key], rtol=1e-4, atol=1e-6, err_msg=key)


def test_spikingresformer_measures_its_rates_in_training():
    folder = "spikingresformer_tiny"
    model = filled(folder, torch.float64).train()
    arrays = np.load(GOLDEN / folder / "io.npz")
    spec = read_json(folder, "spec.json")["train_mode"]
    for name, buffer in model.named_buffers():
        if "firing_rate" in name:
            buffer.zero_()
    shape = arrays["x"].shape
    batches = [arrays["x"], fill_rule.make_input(shape, 1)]
    for number, images in enumerate(batches, start=1):
        steps = model.step_logits(torch.from_numpy(images).double())
        loss = F.cross_entropy(steps.mean(0), torch.tensor(spec["targets"]))
        expected = arrays[f"train{number}_logits_steps_f64"]
        np.testing.assert_allclose(steps.detach().numpy(), expected, rtol=0, atol=1e-8)
        np.testing.assert_allclose(loss.item(), arrays[f"train{number}_loss_f64"], atol=1e-8)
        for name, buffer in model.named_buffers():
            if "firing_rate" in name:
                expected = arrays[f"train{number}:{name}_f64"]
                np.testing.assert_allclose(buffer.numpy(), expected, rtol=0, atol=1e-12)
        if number == 1:
            loss.backward()
    parameters = dict(model.named_parameters())
    norms = [parameters[key].grad.norm().item() for key in spec["grad_norm_keys"]]
    np.testing.assert_allclose(norms, arrays["train1_grad_norms_f64"], rtol=1e-4)
    for key in arrays.files:
        if key.startswith("train1_grad:") and key.endswith("_f64"):
            name = key.removeprefix("train1_grad:").removesuffix("_f64")
            np.testing.assert_allclose(parameters[name].grad.numpy(), arrays[key], rtol=1e-4)
