"""The call of a spiking network: state, chunks, readouts, recordings, observers."""

import copy
import io
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.neurons import CUMULATIVE, NEURONS, SpikingNeuron


class Net(nn.Module):
    """Convolutions, a max-pool and a gate: stream and running values."""

    def __init__(self):
        super().__init__()
        self.conv1, self.act1 = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
        self.conv2, self.act2 = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(4, 5)

    def forward(self, x):
        x = self.act1(self.conv1(x))
        x = self.act2(self.conv2(self.pool(x)) * x.mean((2, 3), keepdim=True).sigmoid())
        return self.head(x.mean((2, 3)))


@pytest.fixture(params=list(NEURONS))
def snn(request):
    model = insert_qcfs(Net().double().eval(), levels=8, threshold=1.0)
    return convert_model(model, neuron=request.param)


@pytest.fixture
def images():
    return torch.randn(3, 3, 6, 6, dtype=torch.double)


SAME = {"rtol": 0, "atol": 1e-8}


def test_shape_and_type(snn, images):
    readout = snn(images, timesteps=7)
    assert readout.shape == (7, 3, 5) and readout.dtype is torch.float64
    assert not readout.requires_grad


def test_two_calls_are_equal_and_batches_may_differ(snn, images):
    first = snn(images, timesteps=6, chunk=2)
    snn(torch.randn(5, 3, 8, 8).double(), timesteps=3)
    assert torch.equal(snn(images, timesteps=6, chunk=2), first)


def test_state_is_forgotten_also_after_an_error(snn, images):
    first = snn(images, timesteps=6, chunk=2)

    def fail(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), snn.observe(fail):
        snn(images, timesteps=6)
    assert torch.equal(snn(images, timesteps=6, chunk=2), first)


@pytest.mark.parametrize("chunk", [1, 2, 5, 11, 100, None])
def test_chunks_change_nothing(snn, images, chunk):
    torch.testing.assert_close(
        snn(images, timesteps=11, chunk=chunk), snn(images, timesteps=11, chunk=3), **SAME
    )


def test_fewer_steps_are_the_first_ones(snn, images):
    torch.testing.assert_close(snn(images, timesteps=4), snn(images, timesteps=11)[:4], **SAME)


def test_images_do_not_see_each_other(snn, images):
    whole = snn(images, timesteps=9)
    for i in range(3):
        torch.testing.assert_close(snn(images[i : i + 1], timesteps=9)[:, 0], whole[:, i], **SAME)
    torch.testing.assert_close(snn(images.flip(0), timesteps=9), whole.flip(1), **SAME)


def test_the_images_are_not_changed(snn, images):
    before = images.clone()
    snn(images, timesteps=3)
    assert torch.equal(images, before)


def test_readout_may_be_chosen_at_the_call(snn, images):
    if snn.coding is CUMULATIVE:
        with pytest.raises(ValueError, match="second-half"):
            snn(images, timesteps=4, readout="second-half")
        return
    mean = snn(images, timesteps=8)
    half = snn(images, timesteps=8, readout="second-half")
    torch.testing.assert_close(half[-1], 2 * mean[-1] - mean[3], **SAME)
    assert snn.info["readout"] == "mean"


def test_module_is_frozen_and_in_evaluation(snn):
    assert not snn.training and not any(p.requires_grad for p in snn.parameters())


@pytest.mark.parametrize("chunk", [1, 4, None])
def test_recordings_hold_spikes_of_the_latest_call(snn, images, chunk):
    with snn.record() as spikes:
        snn(torch.randn(2, 3, 6, 6).double(), timesteps=3)
        snn(images, timesteps=10, chunk=chunk)
    assert list(spikes) == list(snn.sites) == ["act1", "act2"]
    assert spikes["act1"].shape == (10, 3, 4, 6, 6) and spikes["act2"].shape == (10, 3, 4, 3, 3)
    before = spikes["act1"].clone()
    snn(images * 0, timesteps=10)
    assert torch.equal(spikes["act1"], before), "nothing is recorded behind the `with`"


def test_recordings_of_some_sites(snn, images):
    with snn.record("act2") as spikes:
        snn(images, timesteps=3)
    assert list(spikes) == ["act2"]
    with pytest.raises(ValueError, match="act1"):
        snn.record("act3")


@pytest.mark.parametrize("chunk", [None, 4])
def test_analog_values_and_membranes_on_request(snn, images, chunk):
    """act1 reads the stream: its membrane is what came in and was not sent (and half a unit)."""
    with snn.record("act1", analog=True, membrane=True) as spikes:
        snn(images, timesteps=9, chunk=chunk)
    unit = snn.sites["act1"].unit
    sent = (spikes["act1"] * unit).cumsum(0)
    assert spikes.analog["act1"].shape == spikes.membrane["act1"].shape == sent.shape
    expected = spikes.analog["act1"].cumsum(0) - sent + unit / 2
    torch.testing.assert_close(spikes.membrane["act1"], expected, **SAME)


def test_recording_changes_no_result(snn, images):
    expected = snn(images, timesteps=6, chunk=2)
    with snn.record(analog=True):
        assert torch.equal(snn(images, timesteps=6, chunk=2), expected)


def test_recordings_nest(snn, images):
    with snn.record("act1") as outer:
        with snn.record("act2") as inner:
            snn(images, timesteps=4)
        assert list(outer) == ["act1"] and list(inner) == ["act2"]


def test_observers_see_every_operation_with_its_clock(snn, images):
    seen = []
    with snn.observe(
        lambda node, module, args, kwargs, output, clock: seen.append(
            (node.name, clock.start, clock.steps, clock.batch)
        )
    ):
        snn(images, timesteps=5, chunk=2)
    assert [s[1:] for s in seen if s[0] == "conv2"] == [(0, 2, 3), (2, 2, 3), (4, 1, 3)]
    assert [s[1] for s in seen if s[0] == "conv1"] == [0]
    count = len(seen)
    snn(images, timesteps=2)
    assert len(seen) == count


def test_sites_tell_kind_levels_threshold_and_unit(snn):
    for site in snn.sites.values():
        assert site.kind == snn.info["neuron"] and site.levels == 8
        assert site.threshold.item() == 1.0
        assert site.unit.item() == (1.0 if site.kind == "if" else 0.125)
        assert repr(site.name) in repr(site)


def test_units_fit_recordings_of_any_rank():
    """Per channel, behind batch norms of [B, C] and [B, C, L], linear and convolution."""
    from spikeswap.calibrate import activation_thresholds

    shapes = {
        (6,): [nn.Linear(6, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3)],
        (2, 9): [nn.Conv1d(2, 7, 3), nn.BatchNorm1d(7), nn.ReLU(), nn.Flatten(), nn.Linear(49, 3)],
        (5, 6): [nn.Linear(6, 7), nn.ReLU(), nn.Flatten(), nn.Linear(35, 3)],
    }
    for shape, layers in shapes.items():
        model = nn.Sequential(*layers).double().eval()
        x = torch.randn(4, *shape, dtype=torch.double)
        quantised = insert_qcfs(model, levels=8, thresholds=activation_thresholds(model, [x]))
        snn = convert_model(quantised, neuron="multi")
        with snn.record() as spikes:
            snn(x, timesteps=16)
        ((name, counts),) = spikes.items()
        found = (counts * snn.sites[name].unit).sum(0)
        expected = _until(quantised, name, x)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def _until(model, name, x):
    kept = []
    handle = model.get_submodule(name).register_forward_hook(lambda _m, _i, y: kept.append(y))
    model(x)
    handle.remove()
    return kept[0].detach()


def test_default_chunk_bounds_memory(images):
    """More steps are not held at once than fit the budget for the largest tensor."""
    from spikeswap.snn import network

    model = insert_qcfs(Net().double().eval(), levels=8, threshold=1.0)
    snn = convert_model(model)
    snn(images, timesteps=1)
    largest = []
    with snn.observe(
        lambda node, module, args, kwargs, output, clock: largest.append(
            output.nbytes if isinstance(output, torch.Tensor) else 0
        )
    ):
        snn(images.repeat(200, 1, 1, 1), timesteps=64)
    assert max(largest) <= network.CHUNK_BYTES["cpu"] * 1.01
    assert any(isinstance(m, SpikingNeuron) for m in snn.modules())


def test_threads_take_turns(snn, images):
    batches = [torch.randn_like(images[: 1 + i % 3]) for i in range(12)]
    expected = [snn(batch, timesteps=5) for batch in batches]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda batch: snn(batch, timesteps=5), batches))
    assert all(map(torch.equal, found, expected))


def test_a_network_is_copied_and_pickled(snn, images):
    expected, file = snn(images, timesteps=5), io.BytesIO()
    torch.save(snn, file)
    file.seek(0)
    for twin in (copy.deepcopy(snn), torch.load(file, weights_only=False)):
        assert torch.equal(twin(images, timesteps=5), expected)
