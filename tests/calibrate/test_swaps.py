import pytest
import timm
import torch
from torch import nn

from spikeswap.calibrate import swap_gelu, swap_norm
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


def test_every_gelu_becomes_a_relu():
    model = nn.Sequential(nn.Linear(4, 4), nn.GELU("tanh"), nn.Sequential(nn.GELU()), nn.SiLU())
    swapped, x = swap_gelu(model), torch.randn(5, 4)
    assert torch.equal(swapped[1](x), x.relu()) and torch.equal(swapped[2](x), x.relu())
    assert type(swapped[3]) is nn.SiLU and type(model[1]) is nn.GELU
    with pytest.raises(ValueError, match="no GELU module"):
        swap_gelu(swapped)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_layer_norms_of_timm_are_swapped_in_their_own_layout(name):
    model = timm.create_model(name, num_classes=4).eval()
    images = torch.randn(8, 3, 160, 160)
    swapped = swap_norm(model, [images])
    assert not any(isinstance(m, nn.LayerNorm) for m in swapped.modules())
    ours = {n for n, m in swapped.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    assert ours == {n for n, m in model.named_modules() if isinstance(m, nn.LayerNorm)}
    assert swapped(images).isfinite().all()
