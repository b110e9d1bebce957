import torch

from spikeswap.neurons import QCFS
from spikeswap.train import build_network, load_checkpoint, restore_network, save_checkpoint

BUILD = {
    "model": "swin_nano_bn",
    "num_classes": 10,
    "img_size": 32,
    "in_chans": 1,
    "overrides": {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]},
    "levels": 4,
    "threshold": 1.5,
    "mask": 0.5,
}


def checkpoint(model, **more):
    return {"model": model.state_dict(), "build": BUILD, "config": {}, "epoch": 1, **more}


def test_a_network_comes_back_from_its_checkpoint(tmp_path):
    network = build_network(BUILD)
    save_checkpoint(tmp_path / "last.pt", checkpoint(network))
    again = restore_network(load_checkpoint(tmp_path / "last.pt"))
    images = torch.randn(3, 1, 32, 32)
    assert not again.training
    assert torch.equal(network.eval()(images), again(images))


def test_averaged_weights_go_before_plain_ones():
    averaged = build_network(BUILD)
    again = restore_network(checkpoint(build_network(BUILD), model_ema=averaged.state_dict()))
    assert torch.equal(again.head.weight, averaged.head.weight)


def test_thresholds_of_another_shape_come_back():
    network = build_network(BUILD)
    site = next(m for m in network.modules() if isinstance(m, QCFS))
    site.set_threshold(torch.linspace(0.5, 1.0, 8))
    again = restore_network(checkpoint(network))
    other = next(m for m in again.modules() if isinstance(m, QCFS))
    assert torch.equal(other.threshold, site.threshold)


def test_levels_of_none_leave_the_model_as_it_is():
    network = build_network({**BUILD, "levels": None})
    assert not any(isinstance(module, QCFS) for module in network.modules())
