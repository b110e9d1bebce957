"""Thresholds from data: largest activations by site and channel, over all batches."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spikeswap.calibrate import activation_thresholds
from spikeswap.convert import UnconvertibleError, insert_qcfs


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.linear, self.head = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        x = self.act(self.norm(self.conv(x)))
        x = F.relu6(4 * self.linear(x.flatten(2).transpose(1, 2)))
        return self.head(F.relu(x @ x.transpose(1, 2)) @ x).mean(1)

    def by_hand(self, x):
        """Values behind the three activations, channels last."""
        a = F.relu(self.norm(self.conv(x))).flatten(2).transpose(1, 2)
        b = F.relu6(4 * self.linear(a))
        return a, b, F.relu(b @ b.transpose(1, 2))


@pytest.fixture
def model():
    return Net().eval()


@pytest.fixture
def images():
    return torch.randn(10, 3, 6, 6)


def test_largest_activation_of_each_channel(model, images):
    found = activation_thresholds(model, [images])
    a, b, c = model.by_hand(images)
    assert list(found) == ["act", "relu6", "relu"]
    torch.testing.assert_close(found["act"], a.flatten(0, 1).amax(0))
    torch.testing.assert_close(found["relu6"], b.flatten(0, 1).amax(0))
    assert found["relu6"].max() <= 6
    torch.testing.assert_close(found["relu"], c.amax().reshape(1))  # scores have one threshold


def test_one_value_a_site(model, images):
    found = activation_thresholds(model, [images], per_channel=False)
    for value, activation in zip(found.values(), model.by_hand(images), strict=True):
        torch.testing.assert_close(value, activation.amax().reshape(1))


def test_batches_and_their_kind_do_not_matter(model, images):
    whole = activation_thresholds(model, [images])
    pairs = [(images[i : i + 3], torch.zeros(1)) for i in range(0, 10, 3)]
    for loader in (
        pairs,
        iter(pairs),
        [list(p) for p in pairs],
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, torch.zeros(10)), 4),
    ):
        found = activation_thresholds(model, loader)
        assert found.keys() == whole.keys()
        assert all(torch.allclose(found[k], whole[k]) for k in whole)


def test_statistics_of_training_are_not_used_or_changed(model, images):
    expected = activation_thresholds(model, [images])
    before = model.norm.running_mean.clone()
    model.train()
    found = activation_thresholds(model, [images])
    assert model.training and torch.equal(model.norm.running_mean, before)
    assert all(torch.equal(found[k], expected[k]) for k in expected)
    assert not model.act._forward_hooks


def test_dead_channels_have_threshold_zero(model, images):
    with torch.no_grad():
        model.norm.weight[1], model.norm.bias[1] = 0.0, -1.0
    found = activation_thresholds(model, [images])["act"]
    assert found[1] == 0 and (found[[0, 2, 3]] > 0).all()


def test_images_of_another_type_are_brought_to_the_weights(model, images):
    found = activation_thresholds(model.double(), [images])
    assert found["act"].dtype is torch.float64


def test_insert_qcfs_takes_them(model, images):
    """At the images that they were measured on nothing is clipped: error of quantisation alone."""
    found = activation_thresholds(model, [images])
    fine = insert_qcfs(model, levels=2**16, thresholds=found)
    assert (fine(images) - model(images)).norm() < 1e-3 * model(images).norm()


@pytest.mark.parametrize(
    "loader, words",
    [([], "no images"), (iter([]), "no images"), ([["text"]], "tensor"), ([{"x": 1}], "tensor")],
)
def test_loaders_without_images_are_refused(model, loader, words):
    with pytest.raises(ValueError, match=words):
        activation_thresholds(model, loader)


def test_nan_names_the_image_and_an_overflow_the_site(model, images):
    bad = images.clone()
    bad[3, 0, 2, 2] = float("nan")
    with pytest.raises(ValueError, match="image 3 of batch 1"):
        activation_thresholds(model, [images, bad])
    with pytest.raises(ValueError, match="'act'"):
        activation_thresholds(model, [images.clamp(-1, 1) * 3e38])


def test_unknown_method_lists_the_known_ones(model, images):
    with pytest.raises(ValueError, match="max"):
        activation_thresholds(model, [images], method="median of medians")


def test_the_data_parallel_wrapper_is_taken_off(model, images):
    found = activation_thresholds(nn.DataParallel(model), [images])
    assert list(found) == ["act", "relu6", "relu"]


@pytest.mark.parametrize("share", [50.0, 99.0, 100.0])
def test_percentile_of_the_positive_activations(model, images, share):
    """Over batches of growing size of activation, within a bin (0.2 % of the largest)."""
    batches = [images[:2] * 0.1, images[2:5], images[5:] * 7]
    found = activation_thresholds(model, batches, method="percentile", percentile=share)
    for i, value in enumerate(found.values()):
        rows = torch.cat([model.by_hand(b)[i].reshape(-1, len(value)) for b in batches])
        for channel, threshold in zip(rows.T, value, strict=True):
            positive = channel[channel > 0].sort().values
            exact = positive[max(0, -(-len(positive) * int(share) // 100) - 1)]
            largest = positive[-1]
            assert exact - 1e-6 <= threshold <= min(exact + 0.003 * largest, largest)


def test_percentile_does_not_depend_on_batches_once_the_range_is_set(model, images):
    whole = activation_thresholds(model, [images], method="percentile")
    parts = activation_thresholds(model, [images, *images.split(3)], method="percentile")
    for a, b in zip(whole.values(), parts.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=0)


def test_dead_channels_have_percentile_zero(model, images):
    with torch.no_grad():
        model.norm.weight[1], model.norm.bias[1] = 0.0, -1.0
    found = activation_thresholds(model, [images], method="percentile")["act"]
    assert found[1] == 0 and (found[[0, 2, 3]] > 0).all()


@pytest.mark.parametrize("method", ["max", "percentile"])
def test_never_above_a_trained_threshold(model, images, method):
    """A QCFS network is observed as its clipped network."""
    network = insert_qcfs(model, levels=4, threshold=0.7)
    before = [p.clone() for p in network.parameters()]
    found = activation_thresholds(network, [images], method=method)
    assert list(found) == ["act", "relu6", "relu"]
    assert all(0 < v.max() <= 0.7 for v in found.values())
    a = model.by_hand(images)[0].clamp(max=0.7).flatten(0, 1).amax(0)
    torch.testing.assert_close(found["act"], a, rtol=2e-3 if method == "percentile" else 0, atol=0)
    assert all(torch.equal(p, q) for p, q in zip(before, network.parameters(), strict=True))


@pytest.mark.parametrize("percentile", [0, -1, 101, float("nan")])
def test_impossible_percentiles_are_refused(model, images, percentile):
    with pytest.raises(ValueError, match="percentile"):
        activation_thresholds(model, [images], method="percentile", percentile=percentile)


def test_a_network_without_sites_is_refused(images):
    with pytest.raises(ValueError, match="has no ReLU, ReLU6 or QCFS"):
        activation_thresholds(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()), [images])


def test_what_cannot_be_converted_is_refused_before_the_loader_is_read(images):
    """All of it at once, also where there is no ReLU at all."""
    read = []

    class Loader(list):
        def __iter__(self):
            for batch in super().__iter__():
                read.append(len(batch))
                yield batch

    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.SiLU(), nn.Conv2d(2, 2, 3), nn.GELU())
    network.append(nn.Conv2d(2, 2, 1))  # behind the last layer GELU would act on the readout
    with pytest.raises(UnconvertibleError) as caught:
        activation_thresholds(network, Loader([images, images]))
    assert [o.module_path for o in caught.value.offences] == ["1", "3"]
    assert len(read) == 1  # the example
