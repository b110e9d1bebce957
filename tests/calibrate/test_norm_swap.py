import pytest
import torch
from torch import nn

from spikeswap.calibrate import swap_norm
from spikeswap.models import create_model


def small():
    torch.manual_seed(0)
    return create_model("swin_nano_bn", norm="ln", embed_dim=12, img_size=16, in_chans=1)


def test_every_layer_norm_becomes_a_batch_norm_with_the_statistics_of_the_images():
    model, images = small(), torch.randn(32, 1, 16, 16)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    swapped = swap_norm(model, [images[:16], images[16:]]).eval()
    assert not any(isinstance(m, nn.LayerNorm) for m in swapped.modules())
    read = {}
    norm = swapped.patch_embed.norm
    norm.register_forward_hook(lambda _m, inputs, _o: read.setdefault("x", inputs[0]))
    swapped(images)
    mean = read["x"].flatten(0, 1).mean(0)
    # two equal batches: the cumulative mean of their means is the mean
    torch.testing.assert_close(norm.running_mean, mean, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_network_without_layer_norm_is_refused():
    with pytest.raises(ValueError, match="no nn.LayerNorm"):
        swap_norm(nn.Linear(2, 2))
