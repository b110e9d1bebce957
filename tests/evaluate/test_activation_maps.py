"""Activation maps against sums by hand and against networks whose answer is known."""

import math

import torch
from torch import nn

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.evaluate import observe
from spikeswap.evaluate.activation_maps import score_cam, shown_steps, spike_activation_maps


def test_spike_activation_map_by_hand():
    spikes = torch.tensor([[1, 0], [1, 1], [0, 1], [1, 1]]).float()  # [T, C] at one place
    maps = spike_activation_maps(spikes[:, :, None, None], gamma=1.0).flatten()
    e = math.exp
    expected = [0, e(-1), e(-1), (e(-2) + e(-3)) + (e(-1) + e(-2))]
    assert torch.allclose(maps, torch.tensor(expected), atol=1e-6)


def test_maps_double_up_to_the_last_step():
    assert shown_steps(128) == [8, 16, 32, 64, 128]
    assert shown_steps(4) == [2, 4]
    assert shown_steps(1) == []


class Corner(nn.Module):
    """Class 1 is the brightness of the upper left corner, class 0 that of the lower right one."""

    def __init__(self):
        super().__init__()
        self.act = nn.ReLU()

    def forward(self, x):
        x = self.act(torch.cat((x, x.flip(-1)), 1))
        return torch.stack((x[:, 0, 4:, 4:].sum((1, 2)), 4 * x[:, 0, :4, :4].sum((1, 2))), 1)


def test_score_cam_finds_what_the_answer_rests_on():
    image = torch.zeros(1, 8, 8)
    image[0, 1, 1] = image[0, 6, 1] = 1.0
    cam, target = score_cam(Corner(), "act", image, axis=1)
    assert target == 1
    assert cam.shape == (8, 8)
    assert float(cam[:4, :4].sum()) > 3 * float(cam[:4, 4:].sum())


def test_score_cam_weighs_by_the_softmax_of_the_target_scores():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(3 * 64, 2)
    )
    image = torch.rand(1, 8, 8)
    with torch.no_grad():
        maps = network[:2](image[None])[0]
        scores = []
        for channel in maps:
            mask = (channel - channel.min()) / (channel.max() - channel.min())
            scores.append(network((image * mask)[None])[0, 1])
        expected = (torch.stack(scores).softmax(0)[:, None, None] * maps).sum(0).clamp(min=0)
        found, _ = score_cam(network, "1", image, axis=1, target=1)
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_dead_layer_has_an_empty_map():
    with torch.no_grad():
        cam, _ = score_cam(Corner(), "act", torch.zeros(1, 8, 8), axis=1)
    assert float(cam.abs().sum()) == 0


def test_maps_of_a_converted_network_and_a_chosen_layer():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 3),
    )
    ann = insert_qcfs(net, levels=4, threshold=1.0).eval()
    snn, images = convert_model(ann), torch.rand(2, 1, 8, 8)
    maps = observe(snn, images, 16, ann, labels=torch.tensor([2, 1])).maps
    assert maps.site == "1"  # the last one with 8 x 8 places
    assert (maps.label, maps.steps) == (2, [2, 4, 8, 16])
    assert maps.score_cam.shape == (8, 8)
    with snn.record("3") as spikes:
        snn(images, timesteps=16)
    other = observe(snn, images, 16, ann, map_site="3").maps
    expected = spike_activation_maps(spikes["3"][:, 0].float())[-1]
    assert torch.allclose(other.spikes[-1] * expected.max(), expected, atol=1e-5)
