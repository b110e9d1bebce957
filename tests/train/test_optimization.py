import importlib.util

import pytest
import torch
from timm.scheduler import CosineLRScheduler
from torch import nn

from spikeswap.train import build_optimizer, build_schedule, has_nvidia_apex, require_nvidia_apex


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))


def decay_of(model, optimizer):
    groups = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    return {name: groups[id(p)] for name, p in model.named_parameters()}


def test_vectors_and_position_tables_are_undecayed():
    model = Small()
    decay = decay_of(model, build_optimizer(model, "adamw", weight_decay=0.05))
    assert decay.pop("layer.weight") == 0.05
    assert set(decay.values()) == {0.0}


def test_everything_decays_if_asked():
    model = Small()
    optimizer = build_optimizer(model, "sgd", weight_decay=5e-4, decay_everything=True)
    assert set(decay_of(model, optimizer).values()) == {5e-4}


def test_schedule_warms_up_and_falls_as_a_cosine():
    model = Small()
    optimizer = build_optimizer(model, lr=1.0)
    schedule = build_schedule(
        optimizer, epochs=10, steps_per_epoch=10, warmup_fraction=0.1, min_lr=0.1
    )
    rates = []
    for step in range(101):
        schedule.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1)
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))


@pytest.mark.skipif(has_nvidia_apex(), reason="the real one is installed")
def test_fused_optimizers_need_nvidia_apex():
    with pytest.raises(ValueError, match="not installed"):
        build_optimizer(Small(), "fusedadamw")


def test_the_web_toolkit_is_told_from_nvidia_apex(tmp_path, monkeypatch):
    (tmp_path / "apex").mkdir()
    (tmp_path / "apex" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "apex", raising=False)
    importlib.invalidate_caches()
    assert not has_nvidia_apex()
    with pytest.raises(ValueError, match="web-authentication toolkit"):
        require_nvidia_apex("optimizer 'fusedadam'")


@pytest.mark.parametrize("warmup", [0, 3])
def test_published_schedule_is_timm_s(warmup):
    """Warm-up in epochs over a cosine that runs from the start, then the cool-down."""
    steps, epochs, cooldown = 4, 10, 2
    ours, theirs = (torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5) for _ in range(2))
    schedule = build_schedule(
        ours, epochs, steps, 0.0, min_lr=0.01, warmup_lr=0.001, warmup_epochs=warmup
    )
    reference = CosineLRScheduler(
        theirs, t_initial=epochs, lr_min=0.01, warmup_t=warmup, warmup_lr_init=0.001
    )
    rates = []
    for epoch in range(epochs + cooldown):
        schedule.step_update(epoch * steps)
        reference.step(epoch)
        rates.append(ours.param_groups[0]["lr"])
        assert rates[-1] == pytest.approx(theirs.param_groups[0]["lr"], abs=1e-12), epoch
    assert rates[epochs:] == [0.01] * cooldown
    assert rates[warmup] == max(rates)
    assert rates[0] == (0.001 if warmup else 0.5)


def test_a_warm_up_that_fills_the_training_is_said(caplog):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    build_schedule(optimizer, 2, 4, warmup_epochs=20, warmup_lr=1e-6)
    assert "never reaches its peak" in caplog.text
