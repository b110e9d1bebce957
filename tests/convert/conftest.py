"""Small networks, and the one check that every convertible network must pass."""

import pytest
import torch
from torch import nn

import spikeswap
from spikeswap.calibrate import activation_thresholds
from spikeswap.convert import clipped, convert_model, insert_qcfs


class Network(nn.Module):
    """Stem with an activation, `body(net, x)` on its 6 channels, convolution, head.

    `modules` are factories; `conv`, `norm` and `relu` are there for every body. A body gives
    [B, width, H, W].
    """

    def __init__(self, body, modules=None, width=6):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.conv, self.norm = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.relu = nn.ReLU()
        for name, factory in (modules or {}).items():
            made = factory()
            if isinstance(made, nn.Parameter):
                self.register_parameter(name, made)
            elif isinstance(made, torch.Tensor):
                self.register_buffer(name, made)
            else:
                self.add_module(name, made)
        self.last = nn.Sequential(nn.Conv2d(width, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 5)
        self.body = body

    def forward(self, x):
        return self.head(self.last(self.body(self, self.stem(x))).mean((2, 3)))


def settle(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """Batch norms as in a trained network: parameters of their own, statistics of `images`."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
            module.reset_running_stats()
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
    model.train()
    with torch.no_grad():
        model(images)
    return model.eval()


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative error in the 2-norm."""
    return ((found - expected).norm() / expected.norm()).item()


@pytest.fixture
def network():
    return Network


@pytest.fixture
def relative_error():
    return error


@pytest.fixture
def settled():
    return settle


@pytest.fixture
def quantised():
    """A function: model and images -> float64 QCFS network with fitted thresholds, in eval mode."""

    def make(model, images, levels=32, **arguments):
        settle(model.double(), images)
        thresholds = activation_thresholds(model, [images])
        return insert_qcfs(model, levels=levels, thresholds=thresholds, **arguments).eval()

    return make


@pytest.fixture
def assert_exact(tmp_path):
    """A function that asserts what conversion promises of a network, in float64.

    With many levels QCFS is the network; `multi` and `stbif` reach the QCFS network exactly; `if`
    comes nearer to the clipped network as T grows; chunks, batch split and a trip to the disk
    change nothing; the caller's model stays as it was.
    """

    def check(model: nn.Module, images: torch.Tensor, levels: int = 32) -> None:
        settle(model.double(), images)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        thresholds = activation_thresholds(model, [images])
        qcfs = insert_qcfs(
            model.train(), levels=levels, thresholds=thresholds, example_inputs=images
        )
        fine = insert_qcfs(model, levels=2**20, thresholds=thresholds, example_inputs=images)
        assert model.training and qcfs.training and fine.training
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        model.eval(), qcfs.eval(), fine.eval()
        with torch.no_grad():
            assert error(fine(images), model(images)) < 1e-4
            expected, clip = qcfs(images), clipped(qcfs)(images)

        for neuron in ("multi", "stbif"):
            snn = convert_model(qcfs, neuron=neuron)
            steps = 2 * levels + len(snn.sites) + 8
            readout = snn(images, timesteps=steps)
            assert error(readout[-1], expected) < 1e-9, neuron
            assert error(readout[0], expected) > 1e-6, "the first step cannot know the answer"
            torch.testing.assert_close(
                snn(images, timesteps=steps, chunk=7), readout, rtol=0, atol=1e-8
            )
        parts = [snn(images[:1], timesteps=steps), snn(images[1:], timesteps=steps, first_index=1)]
        torch.testing.assert_close(torch.cat(parts, 1), readout, rtol=0, atol=1e-8)
        snn.save(tmp_path / "saved")
        assert torch.equal(
            spikeswap.load(tmp_path / "saved")(images, timesteps=steps, chunk=7),
            snn(images, timesteps=steps, chunk=7),
        )

        readout = convert_model(qcfs, neuron="if")(images, timesteps=512)
        errors = [error(readout[t - 1], clip) for t in (32, 128, 512)]
        assert errors[2] < 2e-3 or (errors[1] < 0.5 * errors[0] and errors[2] < 0.5 * errors[1])

    return check
