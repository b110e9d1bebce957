"""What every direct-trained network does alike: call, readout, state, company, errors."""

import copy
import time

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import base

from spikeswap.models import create_model
from spikeswap.models.direct import (
    check_divides,
    norm_over_time,
    over_time,
    running_mean,
    spiking_neuron,
)

SMALL = {
    "spikingformer": {"embed_dim": 32, "depth": 1, "num_heads": 4},
    "spikingformer-imagenet": {
        "embed_dim": 32,
        "depth": 1,
        "num_heads": 1,
        "tokenizer": "imagenet",
        "tau": 1.5,
    },
    "sdt": {"embed_dim": 32, "depth": 1, "num_heads": 4},
    "sdt-dvs": {"embed_dim": 32, "depth": 1, "num_heads": 4, "dvs_mode": True, "neuron": "plif"},
    "spikingresformer": {
        "widths": (16, 32),
        "num_heads": (1, 2),
        "group_size": 16,
        "depths": (1, 1),
        "patch_sizes": (2, 1),
    },
    "spikingresformer-plif": {
        "widths": (16, 32),
        "num_heads": (1, 2),
        "group_size": 16,
        "depths": (1, 1),
        "patch_sizes": (1, 1),
        "stem": "imagenet",
        "neuron": "plif",
    },
    "cifar10_snn": {"widths": (8, 16, 16), "hidden": 32},
}


def small(family, trained=True, **more):
    """A small and lively network in float64; `trained`: its statistics are those of some images."""
    torch.manual_seed(0)
    name = family.split("-")[0]
    model = create_model(name, num_classes=10, img_size=16, in_chans=2, **SMALL[family], **more)
    model = model.double()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 1.0
            torch.nn.init.constant_(module.weight, 2.0)
            torch.nn.init.constant_(module.bias, 0.5)
    if trained:
        model.train()
        model.step_logits(torch.randn(16, 2, 16, 16, dtype=torch.float64))
    return model.eval()


@pytest.fixture(params=SMALL)
def family(request):
    return request.param


@torch.no_grad()
def test_answer_does_not_depend_on_company(family):
    model = small(family)
    images = torch.randn(5, 2, 16, 16, dtype=torch.float64)
    together = model(images)
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(model(images[order]), together[:, order], rtol=0, atol=1e-8)
    for index in range(5):
        alone = model(images[index : index + 1])
        torch.testing.assert_close(alone[:, 0], together[:, index], rtol=0, atol=1e-8)
    assert not torch.equal(together[:, 0], together[:, 1])


@torch.no_grad()
def test_state_is_reset_and_fewer_steps_are_the_first_ones(family):
    model = small(family)
    images = torch.randn(3, 2, 16, 16, dtype=torch.float64)
    readout = model(images, timesteps=6)
    assert readout.shape == (6, 3, 10)
    assert torch.equal(model(images, timesteps=6), readout)
    torch.testing.assert_close(model(images), readout[:4], rtol=0, atol=1e-10)
    torch.testing.assert_close(model(images[:2], timesteps=1), readout[:1, :2], rtol=0, atol=1e-10)
    steps = model.step_logits(images, timesteps=6)
    torch.testing.assert_close(running_mean(steps), readout)
    torch.testing.assert_close(steps.mean(0), readout[-1])


@torch.no_grad()
def test_event_frames(family):
    model = small(family)
    frames = torch.randn(2, 5, 2, 16, 16, dtype=torch.float64)
    readout = model(frames)
    assert readout.shape == (5, 2, 10)
    torch.testing.assert_close(model(frames, timesteps=3), readout[:3])
    still = frames[:, :1].repeat(1, 4, 1, 1, 1)
    torch.testing.assert_close(model(still), model(frames[:, 0]), rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="hold 5 steps"):
        model(frames, timesteps=6)
    with pytest.raises(ValueError, match="B, C, H, W"):
        model(frames[0, 0])
    with pytest.raises(ValueError, match="whole number of at least 1"):
        model(frames[:, 0], timesteps=0)


def test_training_step_repeats_and_the_model_can_be_copied(family):
    losses = []
    for _ in range(2):
        model = small(family, trained=False).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        run = []
        for _ in range(3):
            images = torch.randn(4, 2, 16, 16, dtype=torch.float64)
            loss = F.cross_entropy(model(images)[-1], torch.tensor([1, 2, 3, 4]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.append(loss.item())
        losses.append(run)
        copy.deepcopy(model)  # membranes hold no graph
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[0][1]
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert set(without) <= set(model.unused_keys())


def test_neurons_are_spikingjelly_s_and_send_zero_or_one(family):
    model = small(family)
    sent = {}
    for name, module in model.named_modules():
        if isinstance(module, base.MemoryModule):
            module.register_forward_hook(lambda m, args, out, name=name: sent.update({name: out}))
    with torch.no_grad():
        model(torch.randn(2, 2, 16, 16, dtype=torch.float64))
    assert len(sent) >= 7
    for name, spikes in sent.items():
        assert spikes.shape[:2] == (4, 2), name
        assert set(spikes.unique().tolist()) <= {0.0, 1.0}, name
        assert spikes.any(), name


def test_the_constant_image_is_convolved_once():
    calls = []

    class Layer(torch.nn.Module):
        def forward(self, x):
            calls.append(len(x))
            return x * 2

    image = torch.randn(3, 2, 4, 4)
    torch.testing.assert_close(over_time(image.expand(5, 3, 2, 4, 4), Layer())[4], image * 2)
    over_time(image.repeat(5, 1, 1, 1, 1), Layer())
    assert calls == [3, 15]
    norm = torch.nn.BatchNorm2d(2)
    norm_over_time(image.expand(5, 3, 2, 4, 4), norm)
    count = 5 * 3 * 16  # the unbiased variance counts all steps
    variance = image.var((0, 2, 3), unbiased=False) * count / (count - 1)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * variance)


def test_impossible_neurons_and_sizes():
    with pytest.raises(ValueError, match="lif, plif, if"):
        spiking_neuron("alif")
    with pytest.raises(ValueError, match="above 1"):
        spiking_neuron("lif", tau=1.0)
    with pytest.raises(ValueError, match="16 or 32"):
        check_divides("img_size", 30, 16, "why")
    with pytest.raises(ValueError, match="example 16"):
        check_divides("img_size", 5, 16, "why")
    with pytest.raises(ValueError, match="whole number of at least 1"):
        check_divides("img_size", 0, 16, "why")
    with pytest.raises(ValueError, match="timesteps"):
        create_model("sdt_2_256", timesteps=0)


@pytest.mark.slow
@torch.no_grad()
def test_spikingformer_is_as_fast_as_its_relu_network():
    """Batch 1, T = 4, at 224: at most 1.3 times plain convolutions and ReLU on four images."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        model = create_model("spikingformer_8_768", num_classes=1000).eval()
        images = torch.randn(1, 3, 224, 224)
        four = images.repeat(4, 1, 1, 1)
        spiking, plain = [], []
        for _ in range(8):
            start = time.perf_counter()
            model(images)
            middle = time.perf_counter()
            _relu_network(model, four)
            plain.append(time.perf_counter() - middle)
            spiking.append(middle - start)
    finally:
        torch.set_num_threads(before)
    assert min(spiking) <= 1.3 * min(plain)


def _relu_network(model, x):
    """The layers of a Spikingformer on `[N, C, H, W]`, ReLU instead of each neuron."""
    embed = model.patch_embed
    for stage, stem in enumerate(embed.stems):
        if stage:
            x = getattr(embed, f"maxpool{stage}")(torch.relu(x))
        x = getattr(embed, f"{stem}_bn")(getattr(embed, f"{stem}_conv")(x))
    for block in model.block:
        attn, mlp = block.attn, block.mlp
        z = torch.relu(x).flatten(2)
        q = torch.relu(attn.q_bn(attn.q_conv(z))).unflatten(1, (attn.num_heads, -1))
        k = torch.relu(attn.k_bn(attn.k_conv(z))).unflatten(1, (attn.num_heads, -1))
        v = torch.relu(attn.v_bn(attn.v_conv(z))).unflatten(1, (attn.num_heads, -1))
        z = torch.relu(((v @ k.mT) @ q).flatten(1, 2) * 0.125)
        x = x + attn.proj_bn(attn.proj_conv(z)).unflatten(2, x.shape[2:])
        z = torch.relu(mlp.mlp1_bn(mlp.mlp1_conv(torch.relu(x))))
        x = x + mlp.mlp2_bn(mlp.mlp2_conv(z))
    return model.head(x.mean((2, 3)))
