import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from spikeswap.train import load_initial_weights


def network(classes=10, width=8):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, classes))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state},
        lambda state: {"model": {f"module.{name}": tensor for name, tensor in state.items()}},
    ],
)
def test_wrappers_are_taken_off(tmp_path, wrap):
    source, target = network(), network()
    torch.save(wrap(source.state_dict()), tmp_path / "w.pt")
    assert load_initial_weights(target, tmp_path / "w.pt", num_classes=10) == []
    assert torch.equal(target[2].weight, source[2].weight)


def test_a_head_of_another_size_is_left_out_and_named(tmp_path):
    source, target = network(classes=100), network()
    before = target[2].weight.clone()
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    left = load_initial_weights(target, tmp_path / "w.safetensors", num_classes=10)
    assert left == ["2.weight", "2.bias"]
    assert torch.equal(target[0].weight, source[0].weight)
    assert torch.equal(target[2].weight, before)


def test_another_architecture_is_refused(tmp_path):
    torch.save(network(width=16).state_dict(), tmp_path / "w.pt")
    target = network()
    before = target[0].weight.clone()
    with pytest.raises(ValueError, match="another architecture: .*of another shape"):
        load_initial_weights(target, tmp_path / "w.pt", num_classes=10)
    assert torch.equal(target[0].weight, before)
    torch.save({"x": torch.ones(1)}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="4 missing .*1 unknown"):
        load_initial_weights(target, tmp_path / "x.pt", num_classes=10)
    torch.save([1, 2], tmp_path / "l.pt")
    with pytest.raises(ValueError, match="holds no state dict"):
        load_initial_weights(target, tmp_path / "l.pt", num_classes=10)
    (tmp_path / "b.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match="no readable safetensors"):
        load_initial_weights(target, tmp_path / "b.safetensors", num_classes=10)
