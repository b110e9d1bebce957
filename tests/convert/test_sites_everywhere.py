"""Networks as people have them, with sites in front of every layer with weights and every product."""

import pytest
import timm
import torch
from torch import nn

import spikeswap
from spikeswap.calibrate import activation_thresholds
from spikeswap.convert import UnconvertibleError, convert_model, insert_qcfs
from spikeswap.evaluate import evaluate
from spikeswap.graph import prepare
from spikeswap.neurons import QCFS

SIZES = {  # smallest of their families, GELU, SiLU, layer norm, gates, attention
    "test_vit": 64,
    "test_convnext": 64,
    "test_efficientnet": 64,
    "test_nfnet": 64,
    "test_resnet": 64,
    "test_mambaout": 64,
    "mobilenetv3_small_050": 64,
}


def theirs(name: str) -> nn.Module:
    torch.manual_seed(0)
    size = {"img_size": SIZES[name]} if "vit" in name else {}
    model = timm.create_model(name, num_classes=5, **size)
    for module in model.modules():
        if isinstance(getattr(module, "running_var", None), torch.Tensor):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.double().eval()


@pytest.mark.parametrize("name", SIZES)
def test_the_readout_becomes_that_of_the_quantised_network(name):
    model, size = theirs(name), SIZES[name]
    images = torch.randn(2, 3, size, size, dtype=torch.double)
    prepared = prepare(model, example_inputs=images, sites="all")
    how = {"calibration": [images], "levels": 8, "method": "max"}
    snn = convert_model(prepared, neuron="multi", **how)
    thresholds = activation_thresholds(prepared, [images])
    quantised = insert_qcfs(prepared, 8, thresholds=thresholds).eval()
    readout, expected = snn(images, timesteps=40), quantised(images)
    torch.testing.assert_close(readout[-1], expected, rtol=0, atol=1e-9)
    audit = snn.audit(images, timesteps=2)
    weights = [r for r in audit.rows if r.weights and r.when == "every step"]
    assert weights and all(r.arithmetic == "accumulate" for r in weights)


def test_stbif_gets_there_too_and_travels(tmp_path):
    model, images = theirs("test_vit"), torch.randn(2, 3, 64, 64, dtype=torch.double)
    snn = convert_model(model, neuron="stbif", calibration=[images], levels=4, method="max")
    readout = snn(images, timesteps=120)
    assert torch.equal(readout[-1], readout[-20])
    snn.save(tmp_path)
    loaded = spikeswap.load(tmp_path)
    assert torch.equal(loaded(images, timesteps=12), readout[:12])
    assert loaded.info.fidelity == snn.info.fidelity and loaded.info.fidelity.method == "max"


def test_if_is_refused_on_signed_sites_with_what_to_do():
    model, images = theirs("test_vit"), torch.randn(2, 3, 64, 64, dtype=torch.double)
    with pytest.raises(UnconvertibleError, match='sites="all"'):
        convert_model(model, neuron="if", calibration=[images])
    with pytest.raises(ValueError, match="'if' sends no negative.*neuron='multi'.*sites='relu'"):
        convert_model(model, neuron="if", calibration=[images], sites="all")
    quantised = insert_qcfs(model, sites="all", example_inputs=images)
    with pytest.raises(ValueError, match="'if' sends no negative"):
        convert_model(quantised, neuron="if")


def test_a_relu_network_gets_its_missing_sites_and_if_takes_them_where_none_is_signed():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 5)

        def forward(self, x):
            return self.head(self.b(self.a(x).relu()).relu().mean((2, 3)))

    model, images = Net().double().eval(), torch.randn(4, 3, 9, 9, dtype=torch.double)
    few = convert_model(model, neuron="if", calibration=[images])
    everywhere = convert_model(model, neuron="if", calibration=[images], sites="all")
    assert len(few.sites) == 2 and len(everywhere.sites) == 3
    loader = [(images, torch.arange(4) % 4)]
    shares = [evaluate(snn, loader, timesteps=4)["spike_driven_share"] for snn in (few, everywhere)]
    assert shares[0] < shares[1]


def test_sites_everywhere_can_be_trained():
    """The thresholds of signed sites learn, and what was trained converts exactly."""
    model, images = theirs("test_convnext"), torch.randn(4, 3, 64, 64, dtype=torch.double)
    network = insert_qcfs(
        model, levels=8, threshold=2.0, sites="all", example_inputs=images
    ).train()
    sites = [m for m in network.modules() if isinstance(m, QCFS)]
    before = [site.threshold.detach().clone() for site in sites]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        loss = nn.functional.cross_entropy(network(images), torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    moved = [not torch.equal(a, s.threshold) for a, s in zip(before, sites, strict=True)]
    assert sum(moved) > 0.8 * len(sites)
    network.eval()
    readout = convert_model(network, neuron="multi")(images, timesteps=40)
    torch.testing.assert_close(readout[-1], network(images), rtol=0, atol=1e-9)


def test_a_network_with_nothing_to_drive_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    with pytest.raises(UnconvertibleError, match="nothing that spikes could drive"):
        convert_model(model, neuron="multi", calibration=[torch.randn(2, 3, 8, 8)])
