"""What real weight files hold comes back: every format, wrapper, prefix and stranger."""

import argparse
from collections import Counter, OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from yacs.config import CfgNode

from spikeswap.support.state_dicts import read_state_dict, unwrap
from spikeswap.support.weight_files import read_checkpoint


def tensors():
    base = torch.arange(24.0).view(4, 6)
    return OrderedDict(
        plain=base,
        turned=base.t(),
        part=base[1:3, 2:5],
        scalar=torch.tensor(7),
        nothing=torch.empty(0, 3),
        half=torch.ones(3, dtype=torch.float16),
        brain=torch.full((2, 2), -1.5, dtype=torch.bfloat16),
        mask=torch.tensor([True, False]),
        large=torch.tensor([-(2**40)]),
        small=torch.tensor([-3], dtype=torch.int8),
        repeated=torch.tensor([2.0]).expand(5),
        parameter=nn.Parameter(torch.ones(2)),
    )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_come_back_as_torch_reads_them(legacy, protocol, tmp_path):
    path = tmp_path / "w.pt"
    options = {"_use_new_zipfile_serialization": not legacy, "pickle_protocol": protocol}
    torch.save(tensors(), path, **options)
    found, expected = read_checkpoint(path), torch.load(path, weights_only=False)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
        assert found[name].stride() == tensor.stride()
    assert found["plain"].data_ptr() == found["turned"].data_ptr()  # shared, as it was saved


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_of_a_training_with_all_that_lies_in_one(legacy, tmp_path):
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.randn(8, 3)).sum().backward()
    optimizer.step()
    content = {
        "state_dict": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "config": CfgNode({"A": {"B": 1}}),
        "args": argparse.Namespace(lr=1e-3, names={"a", "b"}),
        "best": np.float64(77.5),
        "array": np.arange(3),
        "history": defaultdict(list, loss=[1.0, 0.5]),
        "counts": Counter({30: 1}),
        "dtype": torch.float32,
        "device": torch.device("cuda:0"),
        "size": torch.Size([1, 2]),
        "bytes": b"\x00\xff",
        "numbers": (1, -2, 2**70, 0.5, None, True),
    }
    path = tmp_path / "w.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    found = read_checkpoint(path)
    assert found["numbers"] == content["numbers"] and found["size"] == (1, 2)
    assert found["optimizer"]["param_groups"] == optimizer.state_dict()["param_groups"]
    for number, moments in optimizer.state_dict()["state"].items():
        assert torch.equal(found["optimizer"]["state"][number]["exp_avg"], moments["exp_avg"])
    assert found["best"] == found["args"] == {} and found["history"] == {"loss": [1.0, 0.5]}
    state = read_state_dict(path)
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())


def test_safetensors_are_known_by_their_content(tmp_path):
    save_file({"w": torch.ones(3)}, tmp_path / "w.bin")
    assert torch.equal(read_state_dict(tmp_path / "w.bin")["w"], torch.ones(3))


STATE = {"a.weight": torch.ones(2), "a.bias": torch.zeros(2)}


@pytest.mark.parametrize(
    "wrapper",
    "state_dict model model_state_dict state_dict_ema model_ema net module".split(),
)
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "_orig_mod.module."])
def test_wrappers_and_prefixes_come_off(wrapper, prefix):
    state = {prefix + name: tensor for name, tensor in STATE.items()}
    for content in (state, {wrapper: state, "epoch": 3}, {"model": {wrapper: state}}):
        assert unwrap(content, "it").keys() == STATE.keys()


def test_a_prefix_that_is_a_name_of_the_network_stays():
    state = {"model.weight": torch.ones(2), "model.bias": torch.ones(2)}
    assert unwrap(state, "it", known=state.keys()).keys() == state.keys()
    mixed = {"module.weight": torch.ones(2), "bias": torch.ones(2)}
    assert unwrap(mixed, "it").keys() == mixed.keys()


def test_averaged_weights_are_taken_where_they_are_asked_for():
    content = {"model": {"w": torch.ones(1)}, "model_ema": {"w": torch.zeros(1)}}
    assert unwrap(content, "it")["w"] == 1
    assert unwrap(content, "it", averaged=True)["w"] == 0
    assert unwrap({**content, "model_ema": None}, "it", averaged=True)["w"] == 1


NONSENSE = {
    "empty": ({}, "an empty dictionary"),
    "nothing inside": ({"model": {}}, "'model' is no tensor but an empty dictionary"),
    "list": ([1, 2], "a list"),
    "tensor": (torch.ones(2), "a Tensor"),
    "text": ("weights", "a str"),
    "number": ({"w": 3}, "'w' is no tensor but a int"),
    "array": ({"w": np.ones(2)}, "'w' is no tensor but a pickled numpy"),
    "key": ({3: torch.ones(2)}, "its key 3 is no name"),
    "pair": ({("a", 1): torch.ones(2)}, "its key a tuple is no name"),
    "nested": ({"blocks": {"w": torch.ones(2)}}, "'blocks' is no tensor but a dict"),
    "complex": ({"w": torch.ones(2, dtype=torch.complex64)}, "data type torch.complex64"),
    "sparse": ({"w": torch.eye(3).to_sparse()}, "pickled sparse tensor"),
    "quantised": ({"w": torch.quantize_per_tensor(torch.ones(2), 1, 0, torch.qint8)}, "quantised"),
    "meta": ({"w": torch.ones(2, device="meta")}, "without values"),
    "conjugated": ({"w": torch.ones(2, dtype=torch.complex64).conj()}, "conjugated"),
    "rare": ({"w": torch.ones(2).to(torch.uint16)}, "rare data type"),
    "NaN": ({"w": torch.tensor([1.0, float("nan")])}, "'w' holds NaN"),
    "variance": ({"bn.running_var": torch.tensor([1.0, -1.0])}, "a variance below 0"),
    "threshold": ({"act.threshold": torch.tensor([-0.5])}, "a threshold below 0"),
    "published threshold": ({"act.up": torch.tensor([-0.5])}, r"below 0 \(-0.5\)"),
    "older threshold": ({"act.thresh": torch.tensor([-0.5])}, "a threshold below 0"),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_refused_in_one_sentence_with_file_and_next_step(name, legacy, tmp_path):
    content, words = NONSENSE[name]
    path = tmp_path / "w.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=words) as caught:
        read_state_dict(path)
    text = str(caught.value)
    assert str(path) in text and "torch.save(model.state_dict(), PATH)" in text
    assert "\n" not in text and "holds no state dict" in text


def test_what_is_given_as_a_dictionary_is_checked_too():
    for value in (torch.eye(2).to_sparse(), torch.ones(2, device="meta"), [1.0]):
        with pytest.raises(ValueError, match="the checkpoint holds no state dict .*'w' is"):
            unwrap({"w": value}, "the checkpoint")
