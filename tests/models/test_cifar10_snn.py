"""The CIFAR-10 network of the seed report and its conventional rival."""

import pytest
import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import fx, nn

from spikeswap.models import create_model

SMALL = {"widths": (4, 8, 8), "hidden": 16, "img_size": 16, "in_chans": 1}


def test_the_published_layers():
    model = create_model("cifar10_snn")
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    sizes = [(conv.in_channels, conv.out_channels) for conv in convs]
    assert sizes == [(3, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    linears = [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear)]
    assert linears == [(512 * 4 * 4, 1024), (1024, 10)]
    neurons = model.spiking_neurons()
    assert len(neurons) == 7
    assert model.timesteps == 4
    for node in neurons:
        assert isinstance(node, neuron.IFNode)
        assert isinstance(node.surrogate_function, surrogate.ATan)
        assert (node.v_threshold, node.v_reset, node.surrogate_function.alpha) == (1.0, 0.0, 2.0)


def test_both_have_the_same_weights():
    snn, cnn = create_model("cifar10_snn", **SMALL), create_model("cifar10_cnn", **SMALL)
    assert list(snn.state_dict()) == list(cnn.state_dict())
    cnn.load_state_dict(snn.state_dict())
    relus = [m for m in cnn.modules() if isinstance(m, nn.ReLU)]
    assert len(relus) == 7
    images = torch.randn(2, 1, 16, 16)
    traced = fx.symbolic_trace(cnn.eval())
    assert torch.equal(traced(images), cnn(images))


@torch.no_grad()
def test_one_step_of_the_spiking_network_is_a_threshold():
    snn, cnn = create_model("cifar10_snn", **SMALL), create_model("cifar10_cnn", **SMALL)
    cnn.load_state_dict(snn.state_dict())
    for model in (snn, cnn):
        model.eval()
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(4)
    for module in list(cnn.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, Step())
    images = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(snn(images, timesteps=1)[0], cnn(images))


class Step(nn.Module):
    def forward(self, x):
        return (x >= 1).to(x.dtype)


@pytest.mark.parametrize("name", ["cifar10_snn", "cifar10_cnn"])
def test_impossible_variants_say_what_is_possible(name):
    with pytest.raises(ValueError, match="24 or 32"):
        create_model(name, img_size=28)
    with pytest.raises(ValueError, match="widths"):
        create_model(name, widths=(8, 8))
    with pytest.raises(ValueError, match="hidden"):
        create_model(name, hidden=0)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="24 x 24.*16 x 16"):
        create_model("cifar10_snn", **SMALL)(torch.randn(1, 1, 24, 24))
