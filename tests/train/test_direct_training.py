"""Training of the direct-trained networks: repeats, resumes, TET, averages, precision, transfer."""

import copy
import math

import pytest
import torch

from spikeswap.models import create_model
from spikeswap.train import load_initial_weights, train_classifier

SMALL = {
    "spikingformer": {"embed_dim": 16, "depth": 1, "num_heads": 2},
    "sdt": {"embed_dim": 16, "depth": 1, "num_heads": 2},
    "spikingresformer": {
        "widths": (8, 16),
        "num_heads": (1, 2),
        "group_size": 8,
        "depths": (1, 1),
        "patch_sizes": (2, 1),
    },
    "cifar10_snn": {"widths": (8, 8, 8), "hidden": 16},
}
HEADS = {
    "spikingformer": ["head.weight", "head.bias"],
    "sdt": ["head.weight", "head.bias"],
    "spikingresformer": ["classifier.weight"],
    "cifar10_snn": ["classifier.2.weight", "classifier.2.bias"],
}


def small(family, classes=3, seed=0):
    torch.manual_seed(seed)
    return create_model(
        family, num_classes=classes, img_size=16, in_chans=1, timesteps=2, **SMALL[family]
    )


def batches():
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(12) % 3
    images = torch.randn(12, 1, 16, 16, generator=generator) + labels[:, None, None, None]
    return list(zip(images.split(6), labels.split(6), strict=True))


def train(model, epochs=2, **more):
    """The training losses of each epoch."""
    arguments = {"epochs": epochs, "lr": 1e-2, "per_step": True, "seed": 3, **more}
    return [line["loss"] for line in train_classifier(model, batches(), **arguments)]


@pytest.fixture(params=SMALL)
def family(request):
    return request.param


def test_equal_seeds_give_equal_losses(family):
    first, second = (train(small(family)) for _ in range(2))
    assert first == second
    assert first[0] != first[1]
    assert train(small(family, seed=1)) != first


def test_a_resumed_training_goes_on_exactly(family):
    kept = []
    whole = small(family)
    losses = train(
        whole, epochs=3, ema=0.9, on_epoch=lambda t, lines: kept.append(copy.deepcopy(t.state()))
    )
    resumed = small(family, seed=9)
    assert train(resumed, epochs=3, ema=0.9, resume=kept[0]) == losses[1:]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_the_tet_loss_trains_each_step(family):
    mean, each = train(small(family)), train(small(family), tet_weight=1e-3)
    assert mean != each
    assert all(map(math.isfinite, each))


def test_averaged_weights_answer_like_any_network(family):
    kept = {}
    model = small(family)
    train(model, ema=0.5, on_epoch=lambda t, lines: kept.update(averaged=t.averaged))
    averaged = kept["averaged"].eval()
    images = batches()[0][0]
    with torch.no_grad():
        readout = averaged(images)
        assert readout.isfinite().all()
        assert not torch.equal(readout, model.eval()(images))


def test_bf16_trains_on_the_cpu(family):
    model = small(family)
    losses = train(model, amp="bf16")
    assert all(map(math.isfinite, losses))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert abs(losses[0] - train(small(family))[0]) < 0.5  # another rounding, not another network
    with torch.no_grad():
        assert model.eval()(batches()[0][0]).isfinite().all()


def test_automatic_precision_is_full_on_the_cpu(family):
    assert train(small(family), amp="auto") == train(small(family))


def test_dead_weights_stay_as_they_are(family):
    model = small(family)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    train(model)
    for key, value in model.state_dict().items():
        if key in model.unused_keys():
            assert torch.equal(value, before[key]), key
        elif key.endswith("weight"):
            assert not torch.equal(value, before[key]), key


@pytest.mark.parametrize("wrap", ["bare", "model", "state_dict"])
def test_transfer_leaves_out_a_head_of_another_size(family, wrap, tmp_path):
    """As in seed table 9: the body of a trained network, a new head, another image size."""
    source = small(family, classes=7)
    train(source)
    state = {f"module.{key}": value for key, value in source.state_dict().items()}
    torch.save(source.state_dict() if wrap == "bare" else {wrap: state}, tmp_path / "w.pth")
    target = small(family, classes=3, seed=4)
    before = {key: target.state_dict()[key].clone() for key in HEADS[family]}
    assert load_initial_weights(target, tmp_path / "w.pth", 3) == HEADS[family]
    for key, value in target.state_dict().items():
        expected = before[key] if key in before else source.state_dict()[key]
        assert torch.equal(value, expected), key
    assert all(map(math.isfinite, train(target)))


def test_half_precision_rates_of_a_published_file_are_cast(tmp_path):
    source = small("spikingresformer")
    train(source)
    state = {
        key: value.half() if "firing_rate" in key else value
        for key, value in source.state_dict().items()
    }
    torch.save({"model": state}, tmp_path / "w.pth")
    target = small("spikingresformer", seed=4)
    assert load_initial_weights(target, tmp_path / "w.pth", 3) == []
    rates = [b for name, b in target.named_buffers() if "firing_rate" in name]
    assert rates and all(rate.dtype == torch.float32 and rate.any() for rate in rates)
    assert train(target) != train(small("spikingresformer", seed=4))
