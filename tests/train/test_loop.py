import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from spikeswap.train import TrainingDivergedError, train_classifier
from spikeswap.train.metrics_log import FIELDS


def batches(images=24, classes=3, batch=8):
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(images) % classes
    x = torch.randn(images, 6, generator=generator) + labels[:, None]
    return DataLoader(TensorDataset(x, labels), batch_size=batch)


def network(seed=1):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3)
    )


def losses(lines):
    return [line["loss"] for line in lines]


def test_equal_seeds_give_equal_losses_and_others_do_not():
    runs = [
        losses(train_classifier(network(), batches(), epochs=3, seed=seed)) for seed in (4, 4, 5)
    ]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_lines_have_every_field_and_the_network_learns():
    model = network()
    lines = train_classifier(model, batches(), epochs=20, lr=0.02, validation_loader=batches())
    assert [line["split"] for line in lines[:4]] == ["train", "validation"] * 2
    assert all(set(line) == set(FIELDS) for line in lines)
    assert lines[-1]["top1"] > 60 and lines[-1]["top5"] == 100
    assert lines[-2]["learning_rate"] < 0.02 / 100


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_resumed_training_goes_on_exactly(ema):
    states = []

    def keep(training, lines):
        states.append(
            {
                key: value
                if key not in ("model", "model_ema", "optimizer") or value is None
                else torch.load(_bytes(value))
                for key, value in training.state().items()
            }
        )

    arguments = {"epochs": 4, "seed": 2, "ema": ema}
    whole = network()
    whole_lines = train_classifier(whole, batches(), on_epoch=keep, **arguments)
    resumed = network(seed=77)
    lines = train_classifier(resumed, batches(), resume=states[1], **arguments)
    assert losses(lines) == losses(whole_lines)[2:]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": {}},
        {"optimizer": {"state": {}, "param_groups": [3]}},
        {"optimizer": {"state": {}, "param_groups": []}},
        {"model": {"0.weight": torch.ones(3)}},
    ],
)
def test_a_state_that_fits_no_optimizer_is_refused_in_one_sentence(change):
    states = []
    train_classifier(
        network(), batches(), epochs=1, seed=2, on_epoch=lambda t, _: states.append(t.state())
    )
    with pytest.raises(ValueError, match="does not fit the recipe.*--init PATH") as caught:
        train_classifier(network(), batches(), resume={**states[0], **change}, epochs=2, seed=2)
    assert "\n" not in str(caught.value)


def _bytes(value):
    import io

    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return buffer


def test_averaged_weights_lie_between_start_and_end():
    kept = {}
    model = network()
    start = model[0].weight.detach().clone()
    train_classifier(
        model,
        batches(),
        epochs=2,
        ema=0.5,
        lr=0.01,
        on_epoch=lambda training, lines: kept.update(averaged=training.averaged),
    )
    averaged = kept["averaged"][0].weight
    assert not torch.equal(averaged, model[0].weight)
    assert (averaged - model[0].weight).norm() < (start - model[0].weight).norm()


def test_mixup_has_no_training_accuracy_and_takes_an_odd_batch():
    lines = train_classifier(network(), batches(images=23), epochs=1, mixup=0.5, num_classes=3)
    assert lines[0]["top1"] is None and math.isfinite(lines[0]["loss"])


def test_bf16_autocast_runs_on_the_cpu():
    lines = train_classifier(network(), batches(), epochs=1, amp="bf16")
    assert math.isfinite(lines[0]["loss"])


def test_steps_of_time_train_on_their_mean_or_each():
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network()

        def step_logits(self, images):
            return torch.stack([self.body(images), self.body(images)])

    mean = train_classifier(Steps(), batches(), epochs=1, per_step=True)
    each = train_classifier(Steps(), batches(), epochs=1, per_step=True, tet_weight=1e-3)
    assert mean[0]["loss"] != each[0]["loss"]


@pytest.mark.parametrize(
    "argument, words",
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"lr": float("nan")}, "learning rate nan"),
        ({"warmup_fraction": 1.0}, r"\[0, 1\)"),
        ({"optimizer": "adamv"}, "did you mean .*adamw"),
        ({"label_smoothing": 1.0}, "label smoothing"),
        ({"amp": "fp16"}, "needs a GPU"),
        ({"amp": "half"}, "known: none"),
        ({"ema": 1.0}, "ema decay"),
        ({"min_lr": 1.0}, "final learning rate"),
        ({"mixup": 0.5}, "num_classes"),
        ({"mix_prob": 2.0}, "mix_prob 2.0"),
        ({"schedule": "step"}, "known: update, epoch"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_impossible_arguments_are_refused(argument, words):
    with pytest.raises(ValueError, match=words):
        train_classifier(network(), batches(), **{"epochs": 1, **argument})


def test_a_loss_that_is_not_finite_stops_the_training():
    with pytest.raises(TrainingDivergedError, match="lower --lr"):
        train_classifier(network(), batches(), epochs=2, lr=1e30, clip_grad=None)


def test_global_flags_are_left_as_found():
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    train_classifier(network(), batches(), epochs=1)
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == before


def test_mixing_stops_behind_its_last_epoch():
    arguments = {"epochs": 4, "mixup": 0.5, "num_classes": 3}
    lines = train_classifier(network(), batches(), mix_off_epoch=2, **arguments)
    assert [line["top1"] is None for line in lines] == [True, True, False, False]
    without = train_classifier(network(), batches(), mix_prob=0.0, **arguments)
    plain = train_classifier(network(), batches(), epochs=4)
    assert losses(without) == pytest.approx(losses(plain), abs=1e-6)  # smoothed alike


def test_cool_down_adds_passes_at_the_smallest_rate():
    lines = train_classifier(network(), batches(), epochs=2, cooldown_epochs=2, min_lr=1e-5)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert [line["learning_rate"] for line in lines[2:]] == [1e-5, 1e-5]


def test_the_rate_may_stay_for_a_whole_epoch():
    arguments = {"epochs": 4, "warmup_fraction": 0.0, "lr": 1e-2}
    held = train_classifier(network(), batches(), schedule="epoch", **arguments)
    rates = [line["learning_rate"] for line in held]
    assert rates == pytest.approx([5e-3 * (1 + math.cos(math.pi * t / 4)) for t in range(4)])
    moving = train_classifier(network(), batches(), **arguments)
    assert all(a["learning_rate"] < b for a, b in zip(moving, rates, strict=True))
