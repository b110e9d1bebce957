"""insert_qcfs, clipped and convert_model as users call them."""

import copy
import logging

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

import spikeswap
from spikeswap.calibrate import activation_thresholds
from spikeswap.convert import clipped, convert_model, insert_qcfs
from spikeswap.models import create_model
from spikeswap.neurons import QCFS, ClippedReLU, SpikeMask


class Net(nn.Module):
    """A named, a shared and a functional activation."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU6())
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = self.act(self.norm(self.conv(x)))
        x = self.act(self.block(x) - 0.1)
        return self.head(F.relu(x - 0.2).mean((2, 3)))


@pytest.fixture
def images():
    return torch.randn(4, 3, 8, 8)


def sites_of(model):
    return {name: m for name, m in model.named_modules() if isinstance(m, QCFS)}


def test_every_activation_is_a_qcfs_module_that_is_called(images):
    model = insert_qcfs(Net(), levels=8, threshold=1.5)
    sites, called = sites_of(model), []
    assert set(sites) == {"act", "block.1", "act_1", "relu"}
    for name, site in sites.items():
        assert site.levels == 8 and site.threshold.item() == 1.5
        site.register_forward_hook(lambda *_, name=name: called.append(name))
    model(images)
    assert called == ["act", "block.1", "act_1", "relu"]


def test_paths_and_weights_of_the_original_are_kept():
    source = Net()
    state = insert_qcfs(source).state_dict()
    assert all(torch.equal(state[key], value) for key, value in source.state_dict().items())


def test_equal_calls_give_equal_keys_and_checkpoints_load(images):
    first = insert_qcfs(Net(), levels=8, threshold=1.0, mask=0.5)
    second = insert_qcfs(Net(), levels=8, threshold=2.0, mask=0.5)
    assert list(first.state_dict()) == list(second.state_dict())
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.eval()(images), second.eval()(images))


def test_it_trains_thresholds_too(images):
    model = insert_qcfs(Net().train(), levels=8, threshold=0.5, mask=0.3)
    assert sum(isinstance(m, SpikeMask) for m in model.modules()) == 4
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(images), torch.tensor([0, 1, 2, 3])).backward()
        optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert {f"{site}.threshold" for site in sites_of(model)} <= moved
    assert {"conv.weight", "norm.weight", "head.bias"} <= moved


def test_masks_can_be_changed_on_a_qcfs_network(images):
    model = insert_qcfs(Net(), levels=8, threshold=1.0, mask=0.5)
    bare = insert_qcfs(model, mask=0)
    assert not any(isinstance(m, SpikeMask) for m in bare.modules())
    other = insert_qcfs(bare, mask=0.25, mask_sites=["relu"])
    assert [m.ratio for m in other.modules() if isinstance(m, SpikeMask)] == [0.25]
    assert sites_of(other).keys() == sites_of(model).keys()
    assert all(site.levels == 8 for site in sites_of(other).values())


def test_deep_copies_of_a_qcfs_network_convert_alike(images):
    model = insert_qcfs(create_model("resnet20", widths=(4, 4, 4), depths=(1, 1, 1)), mask=0.5)
    x = torch.randn(2, 3, 8, 8)
    snn, again = convert_model(model), convert_model(copy.deepcopy(model))
    assert snn.info == again.info
    assert torch.equal(snn(x, timesteps=3), again(x, timesteps=3))


def test_qcfs_placed_by_hand_is_converted(images):
    """No insert_qcfs: the user's own modules, one called twice, a threshold a channel."""

    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
            self.q = QCFS(8, torch.tensor([0.3, 0.5, 0.7, 0.9]))
            self.head = nn.Linear(4, 5)

        def forward(self, x):
            return self.head(self.q(self.b(self.q(self.a(x)))).mean((2, 3)))

    model = Mine().double().eval()
    snn = convert_model(model, neuron="multi")
    assert list(snn.sites) == ["q", "q_1"]
    torch.testing.assert_close(
        snn(images.double(), timesteps=24)[-1], model(images.double()).detach(), rtol=0, atol=1e-9
    )


def test_clipped_is_a_copy_with_clips(images):
    model = insert_qcfs(Net(), levels=8, threshold=0.7).eval()
    copied = clipped(model)
    assert not sites_of(copied) and len(sites_of(model)) == 4
    assert sum(isinstance(m, ClippedReLU) for m in copied.modules()) == 4
    fine = insert_qcfs(_net_with_weights_of(model), levels=2**20, threshold=0.7).eval()
    torch.testing.assert_close(copied(images), fine(images), rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="insert_qcfs"):
        clipped(Net())


def _net_with_weights_of(model):
    net = Net()
    net.load_state_dict(model.state_dict(), strict=False)
    return net.eval()


def test_clipped_networks_are_not_converted():
    with pytest.raises(ValueError):
        convert_model(clipped(insert_qcfs(Net())))


# -- pretrained networks with plain ReLU -------------------------------------------------------


@pytest.mark.parametrize("sites", ["relu", "all"])
def test_calibration_is_insertion_with_observed_thresholds(images, sites):
    source = Net().eval()
    chosen = {} if sites == "all" else {"sites": sites}
    chosen.update(method="max", levels=16)
    snn = convert_model(source, neuron="multi", calibration=[images], **chosen)
    assert snn.info["levels"] == 16 and snn.info["sites"] == sites
    thresholds = activation_thresholds(source, [images], sites=sites)
    quantised = insert_qcfs(source, 16, thresholds=thresholds, sites=sites)
    expected = convert_model(quantised, neuron="multi")
    assert torch.equal(snn(images, timesteps=9, chunk=3), expected(images, timesteps=9, chunk=3))
    fine = convert_model(source, neuron="multi", calibration=[images], levels=4096)
    error = (fine(images, timesteps=40)[-1] - source(images)).norm() / source(images).norm()
    assert fine.info["levels"] == 4096 and error < 1e-2


def test_integers_of_numpy_are_whole_numbers_too(images, tmp_path):
    source = Net().eval()
    given = {"seed": np.int64(3), "levels": np.uint8(8), "calibration": [images]}
    snn = convert_model(source, neuron="stbif", **given)
    plain = convert_model(source, neuron="stbif", seed=3, levels=8, calibration=[images])
    out = snn(images, timesteps=np.int32(5), chunk=np.int8(2))
    assert torch.equal(out, plain(images, timesteps=5))
    snn.save(tmp_path / "snn")
    assert spikeswap.load(tmp_path / "snn").info["seed"] == 3
    for wrong in (True, 3.0, np.float32(3), "3"):
        for name in ("seed", "levels"):
            with pytest.raises(ValueError, match=f"{name} .* must be a whole number"):
                convert_model(source, neuron="stbif", **{**given, name: wrong})
        with pytest.raises(ValueError, match="timesteps .* must be a whole number"):
            snn(images, timesteps=wrong)


def test_one_threshold_a_channel_or_a_site(images):
    numbers = {
        flag: [
            site.threshold.numel()
            for site in convert_model(
                Net(), calibration=[images], per_channel=flag, neuron="multi", sites="relu"
            ).sites.values()
        ]
        for flag in (True, False)
    }
    assert numbers == {True: [4, 4, 4, 4], False: [1, 1, 1, 1]}


def test_without_thresholds_there_is_a_next_step():
    with pytest.raises(ValueError, match="calibration.*insert_qcfs"):
        convert_model(Net())


def test_a_timm_network_in_one_line(images):
    """The fused norm-activation layers give one site each, under their own paths."""
    model = timm.create_model("mobilenetv2_035", num_classes=5)
    x = torch.randn(2, 3, 32, 32)
    snn = convert_model(model, calibration=[x], neuron="multi", sites="relu")
    relus = sum(isinstance(m, nn.ReLU6) for m in model.modules())
    assert len(snn.sites) == relus and "bn1.act" in snn.sites
    assert snn(x, timesteps=4).shape == (4, 2, 5)


# -- thresholds of a QCFS network, fitted to data ----------------------------------------------


def swin():
    return create_model(
        "swin_bn",
        num_classes=5,
        img_size=16,
        in_chans=1,
        patch_size=2,
        embed_dim=8,
        depths=(2,),
        num_heads=(2,),
        window_size=4,
    )


def test_fitted_thresholds_never_exceed_the_trained_ones(settled, relative_error):
    x = torch.randn(6, 1, 16, 16, dtype=torch.double)
    model = insert_qcfs(settled(swin().double(), x), levels=16, threshold=4.0).eval()
    plain, fitted = convert_model(model), convert_model(model, calibration=[x])
    trained = sites_of(model)
    lower = 0
    for name, site in fitted.sites.items():
        assert (site.threshold <= trained[name].threshold + 1e-12).all()
        assert (site.threshold > 0).all()
        lower += int((site.threshold < trained[name].threshold).sum())
    assert lower > 0
    expected = clipped(model)(x).detach()
    errors = [relative_error(snn(x, timesteps=64)[-1], expected) for snn in (plain, fitted)]
    assert errors[1] < 0.7 * errors[0], "lower thresholds leave less in the membranes"


def test_a_fitted_conversion_is_recorded_and_saved(tmp_path, settled):
    x = torch.randn(6, 1, 16, 16)
    model = insert_qcfs(settled(swin(), x), levels=16, threshold=4.0).eval()
    snn = convert_model(model, calibration=[(x, torch.zeros(6))], calibrate="thresholds")
    with snn.record() as spikes:
        readout = snn(x, timesteps=6, chunk=3)
    for name, site in snn.sites.items():
        assert set(spikes[name].unique().tolist()) <= {0, 1}
        assert (spikes[name] * site.unit).shape == spikes[name].shape
    assert "6 images" in str(snn.report)
    snn.save(tmp_path)
    assert torch.equal(spikeswap.load(tmp_path)(x, timesteps=6, chunk=3), readout)


def test_exact_neurons_refuse_a_calibration(images):
    model = insert_qcfs(Net())
    for neuron in ("stbif", "multi"):
        with pytest.raises(ValueError, match="exact"):
            convert_model(model, neuron=neuron, calibration=[images])


def test_the_passes_are_logged_one_line_each(caplog):
    model = insert_qcfs(Net())
    with caplog.at_level(logging.INFO, logger="spikeswap"):
        convert_model(model)
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("pass ")]
    assert len(lines) >= 8
    assert [line.split(",")[0] for line in lines] == [f"pass {i}" for i in range(1, len(lines) + 1)]
    assert any("fold_batch_norms: 1 changed" in line for line in lines)


def test_the_library_prints_nothing(capsys, images):
    snn = convert_model(Net(), calibration=[images])
    snn(images, timesteps=2)
    str(snn.report)
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == ""
