"""Masks: where they go by default, by name, and what reads them."""

import copy

import pytest
import torch
from torch import nn

from spikeswap.convert import insert_qcfs
from spikeswap.convert.passes.masks import (
    check_mask_sites,
    default_mask_sites,
    insert_masks,
    masks_to_seeded,
    remove_masks,
    site_names,
    trained_ratio,
)
from spikeswap.models import create_model
from spikeswap.neurons import SeededMask, SpikeMask


class Attention(nn.Module):
    """One head of softmax attention on tokens [B, N, 4], with activations on q, k, v, scores."""

    def __init__(self):
        super().__init__()
        self.embed, self.act = nn.Linear(4, 4), nn.ReLU()
        self.q, self.k, self.v = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.q_act, self.k_act, self.v_act = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.scores_act, self.out_act = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        x = self.act(self.embed(x))
        q, k, v = self.q_act(self.q(x)), self.k_act(self.k(x)), self.v_act(self.v(x))
        scores = self.scores_act(q @ k.transpose(-2, -1) * 0.5)
        return self.out_act(scores.softmax(-1) @ v) + x


def chain():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    )


def test_default_sites_are_q_k_and_scores_where_there_is_attention():
    graph = insert_qcfs(Attention())
    assert default_mask_sites(graph) == ["q_act", "k_act", "scores_act"]


def test_default_sites_of_any_other_network_are_all():
    assert default_mask_sites(insert_qcfs(chain())) == ["1", "3"]


@pytest.mark.parametrize(
    "name, ends",
    [("swin_nano_bn", ("q_act", "k_act", "scores_act")), ("mst", ("q_if", "k_if", "attn_if"))],
)
def test_default_sites_of_transformers(name, ends):
    model = create_model(name, img_size=32, embed_dim=8, depths=(1, 1), num_heads=(1, 1))
    graph = insert_qcfs(model)
    assert default_mask_sites(graph) == [s for s in site_names(graph) if s.endswith(ends)]
    assert len(default_mask_sites(graph)) == 6


def test_default_sites_of_resnet_and_vgg_are_the_inputs_of_blocks():
    resnet = insert_qcfs(create_model("resnet20", widths=(4, 4, 4), depths=(1, 1, 1)))
    assert default_mask_sites(resnet) == ["conv1.2", "conv2_x.0.act", "conv3_x.0.act"]
    vgg = insert_qcfs(create_model("vgg16", stages=((4, 4), (4,), (4,)), hidden=8))
    assert default_mask_sites(vgg) == ["layer1.6", "layer2.2"]


def test_the_declared_sites_survive_insertion_and_copies():
    graph = insert_qcfs(create_model("resnet20", widths=(4, 4, 4), depths=(1, 1, 1)))
    assert default_mask_sites(copy.deepcopy(graph)) == default_mask_sites(graph)
    assert len(default_mask_sites(graph)) < len(site_names(graph))


def masked_sites(graph):
    return [
        n.args[0].target
        for n in graph.graph.nodes
        if n.op == "call_module" and isinstance(graph.get_submodule(n.target), SpikeMask)
    ]


def test_masks_stand_behind_their_sites():
    graph = insert_qcfs(Attention())
    assert insert_masks(graph, 0.5, ["q_act", "act"], "inverse") == 2
    assert masked_sites(graph) == ["act", "q_act"]
    masks = [m for m in graph.modules() if isinstance(m, SpikeMask)]
    assert all(m.ratio == 0.5 and m.scaling == "inverse" for m in masks)


def test_nothing_to_do_changes_nothing():
    graph = insert_qcfs(chain())
    before = list(graph.graph.nodes)
    assert insert_masks(graph, 0.5, []) == remove_masks(graph) == 0
    assert masks_to_seeded(graph, 0, "none", False) == 0
    assert list(graph.graph.nodes) == before


def test_removing_masks_gives_the_numbers_back():
    model, x = chain().eval(), torch.randn(2, 3, 6, 6)
    plain, masked = insert_qcfs(model), insert_qcfs(model, mask=0.5)
    assert not torch.equal(plain(x), masked(x))
    assert remove_masks(masked) == 2
    assert torch.equal(plain(x), masked(x))


def test_all_users_of_a_site_read_the_mask():
    """`act` feeds q, k, v and the shortcut: all of them are masked."""
    model, x = Attention().eval(), torch.randn(2, 6, 4)
    graph = insert_qcfs(model, mask=0.5, mask_sites=["act"])
    site = next(n for n in graph.graph.nodes if n.target == "act")
    assert len(site.users) == 1
    plain = insert_qcfs(model)
    plain.act.register_forward_hook(lambda _m, _i, out: out * 0.5)
    torch.testing.assert_close(graph(x), plain(x))


def test_seeded_masks_carry_site_ratio_seed_and_kind():
    graph = insert_qcfs(chain(), mask=0.25)
    assert trained_ratio(graph) == 0.25
    assert masks_to_seeded(graph, 7, "inverse", True) == 2
    masks = [m for m in graph.modules() if isinstance(m, SeededMask)]
    assert [(m.site, m.ratio, m.scaling, m.seed, m.frozen) for m in masks] == [
        ("1", 0.25, "inverse", 7, True),
        ("3", 0.25, "inverse", 7, True),
    ]


def test_a_network_without_masks_was_trained_at_ratio_zero():
    assert trained_ratio(insert_qcfs(chain())) == 0.0


def test_an_unknown_site_lists_near_names():
    with pytest.raises(ValueError, match="q_act"):
        check_mask_sites(["q_acts"], ["q_act", "k_act"])
