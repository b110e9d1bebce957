"""The evaluator on toy models: every number against a plain computation."""

import math

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import nn

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.evaluate import EnergyModel, check_record, evaluate
from spikeswap.evaluate.records import KEYS


def test_an_ann(ann, loader, images, labels):
    record = evaluate(ann, loader)
    logits = ann(images)
    assert record["kind"] == "ann"
    assert record["top1"] == 100 * int((logits.argmax(-1) == labels).sum()) / 10
    assert record["top5"] == 100  # three classes
    assert any("top5 is trivial" in note for note in record["notes"])
    assert record["macs"] == 16 * 9 * 2 + 32 * 3
    assert record["acs"] == record["synaptic_operations"] == 0
    assert record["energy_millijoules"] == 4.6 * record["macs"] / 1e9
    assert record["parameters"] == sum(p.numel() for p in ann.parameters())
    assert record["batch_independent"] is True
    assert record["images"] == 10
    check_record(record)


def test_all_keys_are_there_and_every_null_has_a_reason(ann, direct, loader):
    for model in (ann, direct):
        for count in (True, False):
            record = evaluate(model, loader, count=count)
            assert list(record)[: len(KEYS)] == list(KEYS)
            for key in KEYS:
                assert record[key] is not None or any(
                    text.startswith(f"{key}: ") for text in record["uncounted"]
                ), key


def test_a_direct_network(direct, loader, images, labels):
    record = evaluate(direct, loader, timesteps=6)
    functional.reset_net(direct)
    readout = direct(images, timesteps=6)
    for t in range(6):
        right = (readout[t].argmax(-1) == labels).sum()
        assert record["top1_by_timestep"][t] == 100 * int(right) / 10
    assert record["top1"] == record["top1_by_timestep"][-1]
    functional.reset_net(direct)
    spikes = direct.fire(direct.conv(images).unsqueeze(0).repeat(6, 1, 1, 1, 1))
    assert record["kind"] == "direct"
    assert record["timesteps"] == 6
    assert record["neuron"] == "LIFNode"
    assert record["spike_values"] == [0, 1]
    assert record["macs"] == 16 * 9 * 4  # the image layer once, not at every step
    assert record["acs"] == pytest.approx(int(spikes.sum()) * 3 / 10, rel=1e-12)
    assert record["energy_millijoules"] == pytest.approx(
        (4.6 * record["macs"] + 0.9 * record["acs"]) / 1e9, rel=1e-12
    )
    assert record["spikes_per_synapse"] == pytest.approx(record["acs"] / (64 * 3))
    assert record["firing_rate"] == {"fire": pytest.approx(spikes.mean().item())}
    fired = int((spikes.sum(0) != 0).sum()) * 3 / 10
    bits = math.ceil(math.log2(7))
    rival = 4.6 * record["macs"] + min(4.6, bits * 0.9) * fired
    own = 4.6 * record["macs"] + 0.9 * record["acs"]
    assert record["energy_to_quantised"] == pytest.approx(own / rival)
    assert record["other_operations"]["neuron charge"] == 64 * 6
    assert record["other_operations"]["neuron reset"] == pytest.approx(int(spikes.sum()) / 10)


@pytest.fixture
def qcfs(images):
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6, 3),
    )
    return insert_qcfs(model, levels=4, threshold=0.6).eval()


@pytest.mark.parametrize("neuron", ["if", "multi"])
def test_a_converted_network(qcfs, loader, images, labels, neuron):
    snn = convert_model(qcfs, neuron=neuron)
    record = evaluate(snn, loader, timesteps=12, ann=qcfs, name="toy", run="runs/toy")
    readout = snn(images, timesteps=12)
    assert (record["name"], record["run"], record["kind"]) == ("toy", "runs/toy", "converted")
    assert record["top1"] == 100 * int((readout[-1].argmax(-1) == labels).sum()) / 10
    same = int((readout[-1].argmax(-1) == qcfs(images).argmax(-1)).sum())
    assert record["agreement_with_ann"] == 100 * same / 10
    assert (record["neuron"], record["levels"]) == (neuron, 4)
    with snn.record() as spikes:
        snn(images, timesteps=12)
    first, second = spikes.values()
    ones = torch.ones(6, 4, 3, 3)
    reach = torch.conv2d((first != 0).flatten(0, 1).float(), ones, stride=2).sum()
    expected = (int(reach) + int((second != 0).sum()) * 3) / 10
    assert record["acs"] == expected
    assert record["macs"] == 16 * 9 * 4
    # the twin: the QCFS network's own nonzero activations, 4 levels in 3 bits
    sites = [m for m in qcfs.modules() if type(m).__name__ == "QCFS"]
    seen = []
    hooks = [s.register_forward_hook(lambda m, a, out: seen.append(out)) for s in sites]
    qcfs(images)
    for hook in hooks:
        hook.remove()
    twin = (
        int(torch.conv2d((seen[0] != 0).float(), ones, stride=2).sum())
        + int((seen[1] != 0).sum()) * 3
    ) / 10
    rival = 4.6 * 16 * 9 * 4 + min(4.6, 3 * 0.9) * twin
    assert record["energy_to_quantised"] == pytest.approx(
        (4.6 * record["macs"] + 0.9 * record["acs"]) / rival
    )
    alone = evaluate(snn, loader, timesteps=12)  # the network knows its own twin
    assert alone["energy_to_quantised"] == record["energy_to_quantised"]
    assert alone["energies"] == record["energies"]
    assert record["batch_independent"] is True


def test_only_the_network_s_own_operations_are_counted(qcfs, loader):
    for model, steps in ((qcfs, None), (convert_model(qcfs), 4)):
        kinds = evaluate(model, loader, timesteps=steps)["other_operations"]
        assert not {"comparison", "reduction", "elementwise"} & kinds.keys()


def test_masked_networks_get_the_number_of_each_image(loader, images):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))
    snn = convert_model(insert_qcfs(model, levels=4, threshold=0.3, mask=0.5).eval(), seed=3)
    record = evaluate(snn, loader, timesteps=5, first_index=100)
    with snn.record() as spikes:
        snn(images, timesteps=5, first_index=100)
    (sent,) = spikes.values()
    site = next(iter(snn.masks))
    keep = snn.masks[site].keep(range(5), range(100, 110), 12)
    assert record["mask"] == 0.5
    assert record["acs"] == int((sent.reshape(5, 10, 12) * keep != 0).sum()) * 3 / 10
    assert record["batch_independent"] is True


def test_limit_and_batch_size_are_exact(direct, images, labels):
    records = [
        evaluate(
            direct,
            list(zip(images.split(n), labels.split(n), strict=True)),
            limit=7,
            check_independence=False,
        )
        for n in (1, 3, 10)
    ]
    for record in records:
        assert record["images"] == 7
        for key in (
            "top1_by_timestep",
            "macs",
            "acs",
            "other_operations",
            "firing_rate",
            "energy_to_quantised",
            "spikes_per_synapse",
            "layers",
        ):
            assert record[key] == records[0][key], key


def test_the_images_keep_their_type_and_the_model_its_state(direct, images, labels):
    seen = []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = direct.double()

        def forward(self, x, timesteps=4):
            seen.append(x.dtype)
            return self.inner(x, timesteps)

    model = Spy().train()
    model.inner.conv.eval()
    evaluate(model, [(images.double(), labels)])
    assert set(seen) == {torch.float64}
    assert model.training
    assert model.inner.training
    assert not model.inner.conv.training
    assert direct.resets == 0  # `reset` of somebody else's module is left alone


def test_spikingjelly_state_does_not_leak_from_batch_to_batch(direct, images, labels):
    direct(images * 3)  # leaves membranes of another batch size behind
    record = evaluate(direct, [(images[:3], labels[:3]), (images[3:], labels[3:])])
    assert record["top1"] == evaluate(direct, [(images, labels)])["top1"]


def test_a_network_with_its_own_time_steps(direct, loader):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = direct

        def forward(self, x):
            return self.inner(x, 3)

    record = evaluate(Own(), loader)
    assert (record["kind"], record["timesteps"]) == ("direct", 3)
    assert record["acs"] > 0


def test_networks_that_take_any_argument(ann, direct, loader):
    class Anything(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x, **arguments):
            return self.inner(x, **arguments)

    assert evaluate(Anything(ann), loader, timesteps=3)["kind"] == "ann"
    assert evaluate(Anything(direct), loader, timesteps=3)["timesteps"] == 3
    assert evaluate(Anything(direct), loader)["timesteps"] == 4


def test_early_exit(direct, loader, images, labels):
    record = evaluate(direct, loader, timesteps=5, early_exit=0.4)
    functional.reset_net(direct)
    sure = direct(images, timesteps=5).softmax(-1).amax(-1)
    steps = [next((t + 1 for t in range(5) if sure[t, i] >= 0.4), 5) for i in range(10)]
    assert record["early_exit"]["average_timesteps"] == sum(steps) / 10
    assert evaluate(direct, loader, early_exit=1.0)["early_exit"]["average_timesteps"] == 4


def test_several_timesteps_run_the_largest(direct, loader):
    assert evaluate(direct, loader, timesteps=[1, 4, 2])["timesteps"] == 4


def test_an_energy_model_of_ones_own(direct, loader):
    mine = EnergyModel("mine", 2.0, 0.5, "measured")
    record = evaluate(direct, loader, energy=mine)
    assert record["energy_model"] == "mine"
    assert record["energy_millijoules"] == pytest.approx(
        (2.0 * record["macs"] + 0.5 * record["acs"]) / 1e9
    )
    assert set(record["energies"]) == {"45nm-fp32", "45nm-fp16", "45nm-int8", "lemaire", "mine"}


@pytest.mark.parametrize("levels", [2, 4])
def test_a_neuron_class_of_another_alphabet_is_looked_at(levels):
    """A descendant of SpikingJelly's neurons need not send {0, 1}."""

    class Integer(neuron.BaseNode):
        def multi_step_forward(self, x_seq):
            return x_seq.clamp(0, levels).round()

        def neuronal_charge(self, x):
            raise AssertionError

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fire, self.head = Integer(step_mode="m"), nn.Linear(4, 3, bias=False)

        def forward(self, x, timesteps=2):
            return self.head(self.fire(x.unsqueeze(0).repeat(timesteps, 1, 1)))

    images = torch.tensor([[0.0, 1.0, float(levels), 0.2]])
    record = evaluate(Net(), [(images, torch.tensor([0]))], timesteps=2, check_independence=False)
    assert record["acs"] == 2 * 2 * 3  # two events a step, whatever their height
    assert record["spike_values"] == list(range(levels + 1))
    assert f"{{0..{levels}}}" in record["layers"][0]["input"]
