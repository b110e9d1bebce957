"""Counting changes nothing, leaves nothing behind, and does not see how the run was cut up."""

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.counting import Ledger, NodeCounter, OperationCounter, settle
from spikeswap.models import create_model
from spikeswap.neurons import NEURONS


@pytest.fixture(params=NEURONS)
def snn(request):
    network = create_model(
        "swin_nano_bn",
        num_classes=4,
        img_size=16,
        in_chans=1,
        embed_dim=12,
        depths=(1, 1),
        num_heads=(2, 2),
        window_size=2,
    )
    network.train()
    network(torch.rand(8, 1, 16, 16))
    ann = insert_qcfs(network, levels=4, threshold=1.0, mask=0.5).eval()
    return convert_model(ann, neuron=request.param)


def count(snn, batches, **more):
    counter = NodeCounter(snn)
    first = 0
    with torch.no_grad(), counter.attached():
        for images in batches:
            with counter.forward(images, 5) as marked:
                snn(marked, timesteps=5, first_index=first, **more)
            counter.close(len(images), 5)
            first += len(images)
    return counter.ledger


def test_batch_size_and_chunk_are_invisible(snn):
    images = torch.rand(6, 1, 16, 16)
    snn = snn.double()
    expected = settle(count(snn, [images.double()]), True)
    for size, chunk in ((1, 1), (2, 5), (4, 3)):
        totals = settle(count(snn, images.double().split(size), chunk=chunk), True)
        assert totals == expected, (size, chunk)


def test_ledgers_of_parts_add_up(snn):
    images = torch.rand(6, 1, 16, 16, dtype=torch.float64)
    snn = snn.double()
    whole = count(snn, images.split(2))
    parts = Ledger()
    first = 0
    for part in images.split(3):
        counter = NodeCounter(snn)
        with torch.no_grad(), counter.attached(), counter.forward(part, 5) as marked:
            snn(marked, timesteps=5, first_index=first)
        counter.close(len(part), 5)
        parts.merge(counter.ledger)
        first += len(part)
    assert settle(parts, True) == settle(whole, True)


def test_logits_are_the_same_to_the_last_bit(snn):
    images = torch.rand(3, 1, 16, 16)
    plain = snn(images, timesteps=5)
    counter = NodeCounter(snn)
    with counter.attached(), counter.forward(images, 5) as marked:
        counted = snn(marked, timesteps=5)
    assert torch.equal(plain, counted)


def test_hooks_and_modes_are_gone_afterwards(snn):
    before = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in snn.modules()]
    count(snn, [torch.rand(2, 1, 16, 16)])
    assert before == [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in snn.modules()]
    assert not snn.executor.observers
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


def test_an_error_inside_leaves_nothing_behind(snn):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.fire = neuron.IFNode()

        def forward(self, x):
            self.fire(x)
            raise ValueError("broken")

    model = Broken()
    counter = OperationCounter(model, True)
    with (
        counter.attached(),
        pytest.raises(ValueError, match="broken"),
        counter.forward(torch.rand(2, 3)) as marked,
    ):
        model(marked)
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None
    assert not model._forward_hooks


def test_inference_mode_is_counted_too():
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), neuron.IFNode(), nn.Flatten(), nn.Linear(2 * 16, 3)
    )
    images = torch.rand(4, 1, 4, 4) + 1
    ledgers = []
    for guard in (torch.no_grad, torch.inference_mode):
        model[1].reset()
        counter = OperationCounter(model, True)
        with guard(), counter.attached(), counter.forward(images, 1) as marked:
            model(marked)
        counter.close(4, 1)
        ledgers.append(settle(counter.ledger, True))
    assert (ledgers[0].macs, ledgers[0].acs) == (ledgers[1].macs, ledgers[1].acs)
    assert ledgers[0].macs == 16 * 9 * 2


def test_writing_in_place_ends_what_was_counted_before():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.fire = neuron.IFNode(v_threshold=0.5)
            self.layer = nn.Linear(6, 2, bias=False)

        def forward(self, x):
            spikes = self.fire(x)
            first = self.layer(spikes)
            spikes[:, 0] = 0
            return first + self.layer(spikes)

    counter = OperationCounter(InPlace(), True)
    with torch.no_grad(), counter.attached(), counter.forward(torch.ones(1, 6), 1) as marked:
        counter.model(marked)
    counter.close(1, 1)
    assert settle(counter.ledger, True).acs == 6 * 2 + 5 * 2


def test_spikes_written_into_a_buffer_are_found():
    class Buffered(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 2, bias=False)

        def forward(self, x, steps=3):
            v, out = torch.zeros_like(x), torch.zeros(steps, *x.shape)
            for t in range(steps):
                v = v + x
                spike = (v >= 1).to(x)
                v = v - spike
                out[t] = spike
            return self.layer(out)

    images = torch.full((2, 6), 0.5)
    counter = OperationCounter(Buffered(), True, "rates")
    with torch.no_grad(), counter.attached(), counter.forward(images, 3) as marked:
        counter.model(marked)
    counter.close(2, 3)
    totals = settle(counter.ledger, True)
    assert (totals.macs, totals.acs) == (0, 6 * 2)  # one spike in three steps
