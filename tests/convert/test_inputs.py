"""Networks that take several inputs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import spikeswap
from spikeswap.calibrate import activation_thresholds
from spikeswap.convert import clipped, convert_model, insert_qcfs, layer_errors, logit_errors


class Joins(nn.Module):
    """Two images of different kinds and a vector."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(1, 4, 5, padding=2)
        self.vector, self.head = nn.Linear(6, 4), nn.Linear(4, 5)

    def forward(self, image, depth, vector, scale=2.0):
        x = F.relu(self.left(image)) + F.relu(self.right(depth))
        return self.head(F.relu(x.mean((2, 3)) + self.vector(vector)) * scale)


@pytest.fixture
def inputs():
    shapes = (4, 3, 8, 8), (4, 1, 8, 8), (4, 6)
    return tuple(torch.randn(shape, dtype=torch.double) for shape in shapes)


@pytest.fixture
def model():
    return Joins().double().eval()


def test_all_inputs_reach_the_network(model, inputs, tmp_path):
    qcfs = insert_qcfs(model, levels=8, threshold=1.5, example_inputs=inputs).eval()
    with torch.no_grad():
        expected, clip = qcfs(*inputs), clipped(qcfs)(*inputs)
    snn = convert_model(qcfs, neuron="multi")
    assert snn.inputs == ("image", "depth", "vector")
    readout = snn(*inputs, timesteps=24)
    torch.testing.assert_close(readout[-1], expected, rtol=0, atol=1e-9)
    for i, one in enumerate(inputs):  # each counts
        moved = [*inputs[:i], one + 1, *inputs[i + 1 :]]
        assert not torch.equal(snn(*moved, timesteps=24)[-1], readout[-1])
    assert torch.equal(snn(*inputs, 24, 3), snn(*inputs, timesteps=24, chunk=3))
    parts = [snn(*(x[i : i + 2] for x in inputs), timesteps=24) for i in (0, 2)]
    torch.testing.assert_close(torch.cat(parts, 1), readout, rtol=0, atol=1e-9)
    assert logit_errors(snn, qcfs, inputs, 24)[24] < 1e-9
    assert len(layer_errors(snn, qcfs, inputs, 24)) == len(snn.sites)
    snn.save(tmp_path)
    again = spikeswap.load(tmp_path)
    assert again.inputs == snn.inputs
    assert torch.equal(again(*inputs, timesteps=9, chunk=3), snn(*inputs, timesteps=9, chunk=3))
    tends = convert_model(qcfs, neuron="if")(*inputs, timesteps=600)
    torch.testing.assert_close(tends[-1], clip, rtol=0, atol=0.03)


def test_an_audit_counts_what_every_input_costs(model, inputs):
    qcfs = insert_qcfs(model, threshold=1.5, example_inputs=inputs).eval()
    counts = {row.name: row for row in convert_model(qcfs).audit(*inputs, timesteps=4).rows}
    macs = {"left": 64 * 9 * 3 * 4, "right": 64 * 25 * 4, "vector": 6 * 4}
    for name, number in macs.items():
        assert (counts[name].count, counts[name].when) == (number, "once an image"), name


def test_calibration_from_loaders_of_several_forms(model, inputs):
    labels = torch.zeros(4).long()
    wanted = convert_model(model, neuron="multi", calibration=inputs)(*inputs, timesteps=9)
    names = ("image", "depth", "vector", "label")
    for loader in (
        [inputs],
        [(*inputs, labels)],
        [(inputs, labels)],
        [dict(zip(names, (*inputs, labels), strict=True))],
        [[x[:2] for x in inputs], [x[2:] for x in inputs]],
        DataLoader(TensorDataset(*inputs, labels), batch_size=3),
        TensorDataset(*inputs, labels),
    ):
        snn = convert_model(model, neuron="multi", calibration=loader)
        assert torch.equal(snn(*inputs, timesteps=9), wanted), loader
    thresholds = activation_thresholds(model, [(*inputs, labels)])
    qcfs = insert_qcfs(model, thresholds=thresholds, example_inputs=inputs)
    snn = convert_model(qcfs, calibration=[inputs], calibrate="bias", calibration_steps=8)
    assert snn.info.calibration.images == 4 and snn.info.calibration.bias_parameters > 0


def test_a_pair_stays_images_and_labels_for_a_network_of_one_input(inputs):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).double()
    scores = torch.randn(4, 2, dtype=torch.double)  # labels that look like a second input
    one, pair = (activation_thresholds(network, [x]) for x in (inputs[0], (inputs[0], scores)))
    assert all(torch.equal(one[name], pair[name]) for name in one)


def test_an_argument_that_nothing_reads_is_no_input(inputs):
    class Ignores(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x, targets):
            return F.relu(self.conv(x)).mean((2, 3))

    snn = convert_model(insert_qcfs(Ignores().double()), neuron="multi")
    assert snn.inputs == ("x",) and snn(inputs[0], timesteps=3).shape == (3, 4, 4)


BAD = {
    "one of three": (lambda a, b, c: (a,), r"1 inputs were given to a network of 3: .*snn\(image,"),
    "steps twice": (lambda a, b, c: (a, b, c, 8), "timesteps is given twice, as 8 and as"),
    "four": (lambda a, b, c: (a, b, c, c), "4 inputs were given to a network of 3"),
    "fewer vectors": (lambda a, b, c: (a, b, c[:2]), "'vector' has 2 images and 'image' has 4"),
    "NaN in the second": (lambda a, b, c: (a, b * float("nan"), c), "holds NaN"),
    "another order": (lambda a, b, c: (c, a, b), r"must be a batch \[B, 3, 8, 8\]"),
    "bytes": (lambda a, b, c: (a, b.to(torch.uint8), c), "images are torch.uint8"),
}


@pytest.mark.parametrize("what", BAD)
def test_inputs_that_do_not_fit(model, inputs, what):
    change, message = BAD[what]
    snn = convert_model(insert_qcfs(model, example_inputs=inputs))
    with pytest.raises(ValueError, match=message):
        snn(*change(*inputs), timesteps=3)


@pytest.mark.parametrize("loader", ["one", "two", "unequal"])
def test_loaders_that_give_too_little(model, inputs, loader):
    a, b, c = inputs
    batches = {"one": [(a, torch.zeros(4).long())], "two": [(a, b)], "unequal": [(a, b[:2], c)]}
    message = (
        "as many of each" if loader == "unequal" else r"example_inputs=\(image, depth, vector\)"
    )
    with pytest.raises(ValueError, match=message):
        convert_model(model, calibration=batches[loader])
