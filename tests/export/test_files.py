"""The NIR file holds the numbers to the bit, in a form that every reader takes; golden spikes, too."""

import json

import h5py
import nir
import numpy as np
import pytest
import torch

from spikeswap.export import TARGETS, export
from spikeswap.export.layers import Weighted
from spikeswap.export.lowering import lower
from spikeswap.export.passes import write_out_groups


@pytest.mark.parametrize("target", ["nir", "spikingjelly"])
def test_every_weight_is_read_back_bit_equal(network, target, tmp_path):
    snn, images = network
    export(snn, tmp_path / "out", target, example=images, timesteps=12, check=False)
    graph = nir.read(tmp_path / "out" / "network.nir")
    layers = lower(snn, images, averages=TARGETS[target].averages)
    write_out_groups(layers)
    assert graph.nodes.keys() == layers.layers.keys()
    assert {*graph.edges} == {(a, n) for n, layer in layers.layers.items() for a in layer.inputs}
    for name, layer in layers.layers.items():
        if isinstance(layer, Weighted):
            assert np.array_equal(graph.nodes[name].weight, layer.weight.float().numpy())
            bias = torch.zeros(layer.channels) if layer.bias is None else layer.bias
            assert np.array_equal(graph.nodes[name].bias, bias.float().numpy())


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_target_needs_of_a_neuron(network, target, tmp_path):
    snn, images = network
    export(snn, tmp_path / "out", target, example=images[:2], timesteps=12, check=False)
    row, graph = TARGETS[target], nir.read(tmp_path / "out" / "network.nir")
    neurons = {n: node for n, node in graph.nodes.items() if isinstance(node, nir.IF)}
    assert len(neurons) == len(snn.sites)
    below = np.nextafter(np.float32(1), np.float32(0)) if row.fires == ">" else np.float32(1)
    for node in neurons.values():
        assert np.all(node.r == row.resistance)
        assert np.all(node.v_threshold == below)
        assert node.metadata["reset"] == "subtract" and node.metadata["fires"] == ">="
        assert node.metadata["v_init"] == 0.5 and node.metadata["T"] == 12
        assert node.metadata["site"] in snn.sites
    kinds = {type(node) for node in graph.nodes.values()}
    assert (nir.AvgPool2d in kinds) == row.averages and (nir.SumPool2d in kinds) != row.averages
    assert (nir.Flatten in kinds) == row.flattens
    assert not any(getattr(node, "groups", 1) > 1 for node in graph.nodes.values())


def test_nothing_in_the_file_stops_nir_1_0_4(network, tmp_path):
    """It knows no v_reset, and no metadata of pools."""
    snn, images = network
    export(snn, tmp_path / "out", "nir", example=images[:2], timesteps=12, check=False)
    with h5py.File(tmp_path / "out" / "network.nir") as file:
        for node in file["node/nodes"].values():
            assert "v_reset" not in node
            assert "metadata" not in node or node["type"][()] == b"IF"


@pytest.mark.parametrize(("bits", "kind"), [(8, np.int8), (16, np.int16)])
def test_integers_in_the_file(network, bits, kind, tmp_path):
    snn, images = network
    record = export(snn, tmp_path / "out", "nir", bits, example=images, timesteps=12)
    graph = nir.read(tmp_path / "out" / "network.nir")
    for node in graph.nodes.values():
        if isinstance(node, (nir.Affine, nir.Conv2d)):
            assert node.weight.dtype == kind and node.bias.dtype == np.int32
        if isinstance(node, nir.IF):
            threshold = node.metadata["threshold"]
            assert threshold == int(threshold) and node.metadata["v_init"] == threshold / 2
    assert record["grade"] == "approximate" and record["rule"]["breaches"] == 0


def test_golden_spikes_are_the_networks_own(network, tmp_path):
    snn, images = network
    record = export(snn, tmp_path / "out", "nir", example=images, timesteps=12)
    assert record["grade"] == "faithful"
    with snn.record() as spikes:
        readout = snn(images[:4], timesteps=12)
    with h5py.File(tmp_path / "out" / "golden.h5") as file:
        values = {n: g["observables/values/data"][()] for n, g in file["nodes"].items()}
    assert np.array_equal(values["input"][:, 0], images[:4].flatten(1).numpy())
    for name, site in record["sites"].items():
        ours = spikes[site].bool().transpose(0, 1).flatten(2).numpy()
        assert values[name].dtype == bool and np.array_equal(values[name], ours), site
    np.testing.assert_allclose(values["output"].mean(1), readout[-1], rtol=1e-4, atol=1e-6)


def test_the_folder_explains_itself(network, tmp_path):
    snn, images = network
    record = export(snn, tmp_path / "out", "nir", example=images, timesteps=12)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"network.nir", "load.py", "golden.h5", "golden.py", "export.json"}
    assert json.loads((tmp_path / "out" / "export.json").read_text()) == record
    wanted = {"target", "bits", "grade", "agreement", "readout_error", "default_import", "nodes"}
    assert wanted <= record.keys()


BAD = {
    "target": ({"target": "loihi"}, "target 'loihi' is unknown; known: nir, sinabs"),
    "bits": ({"bits": 4}, "bits 4 is not offered; choose 32, 16, 8"),
    "start": ({"start": "half"}, "start 'half' is unknown; choose state or bias"),
    "T": ({"timesteps": 0}, "timesteps"),
    "no T": ({"timesteps": None}, "names no T; give timesteps=32"),
    "no example": ({"example": None}, "example is missing"),
    "empty": ({"example": torch.zeros(0, 2, 8, 8)}, "example is missing"),
    "channels": ({"example": torch.zeros(1, 3, 8, 8)}, "channels"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_nothing_is_written(network, case, tmp_path):
    change, words = BAD[case]
    snn, images = network
    given = {"target": "nir", "example": images, "timesteps": 12, **change}
    with pytest.raises(ValueError, match=words) as error:
        export(snn, tmp_path / "out", **given)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(network, tmp_path):
    snn, images = network
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists; name another folder"):
        export(snn, tmp_path / "out", example=images, timesteps=12)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_without_nir(network, tmp_path, monkeypatch):
    snn, images = network
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="package 'nir' is not installed; install it: pip install"):
        export(snn, tmp_path / "out", example=images, timesteps=12)
    assert not list(tmp_path.iterdir())
