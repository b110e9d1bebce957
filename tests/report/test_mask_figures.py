"""Mask ratios of one network: grouped, drawn, and as a table with changes against no masks."""

import pytest
import torch

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.evaluate import evaluate
from spikeswap.evaluate.random_masks import masked_share
from spikeswap.models import create_model
from spikeswap.report.mask_figures import mask_accuracy, mask_groups, mask_power, mask_table


@pytest.fixture(scope="module")
def records():
    found, images, labels = [], torch.rand(6, 1, 8, 8), torch.arange(6) % 4
    for mask in (0.75, 0.0, 0.5):
        torch.manual_seed(0)
        net = create_model("resnet20", num_classes=4, img_size=8, in_chans=1)
        net.train()
        net(torch.rand(8, 1, 8, 8))
        ann = insert_qcfs(net, levels=4, threshold=1.0, mask=mask).eval()
        run = f"runs/resnet20-{mask}"
        for model in (ann, convert_model(ann)):
            found.append(
                evaluate(
                    model,
                    [(images, labels)],
                    timesteps=4,
                    name=run,
                    run=run,
                    check_independence=False,
                )
            )
    return found


def test_networks_that_differ_in_masks_alone_are_one_group(records):
    (group,) = mask_groups(records)
    assert [r["mask"] for r in group] == [0.0, 0.5, 0.75]
    other = [{**r, "timesteps": 8} for r in records if r["mask"] == 0.5]
    assert len(mask_groups(records + other)) == 1
    assert mask_groups([r for r in records if r["mask"] == 0.5]) == []
    assert mask_groups(records[:1]) == []


def test_the_table_says_the_change_against_no_masks(records):
    grid = mask_table(records)
    bare, half, _ = grid.values
    assert [row[1] for row in grid.values] == [0.0, 0.5, 0.75]
    assert bare[3] is None
    assert half[3] == pytest.approx(100 * (half[2] / bare[2] - 1))
    assert f"({half[3]:+.1f} %)" in grid.rows[1][2]
    assert half[7] is not None  # the ANN under random masks
    assert bare[7] is None
    assert grid.csv().count("\n") == grid.markdown().count("\n") - 1 == 4


def test_figures_name_every_ratio(records):
    for drawing in (mask_accuracy(records), mask_power(records)):
        assert all(f"at {mask:g}" in drawing.alt for mask in (0.0, 0.5, 0.75))
    assert mask_accuracy(records[:2]) is None
    assert mask_power(records[:2]) is None


def test_masked_share_is_the_ratio_times_the_spikes_of_masked_sites(records):
    torch.manual_seed(0)
    net = create_model("resnet20", num_classes=4, img_size=8, in_chans=1)
    snn = convert_model(insert_qcfs(net, levels=4, threshold=0.1, mask=0.5).eval())
    images = torch.rand(3, 1, 8, 8)
    record = evaluate(snn, [(images, torch.arange(3))], timesteps=4)
    with snn.record() as spikes:
        snn(images, timesteps=4)
    sent = {name: int(x.ne(0).sum()) for name, x in spikes.items()}
    masked = sum(count for name, count in sent.items() if name in snn.masks)
    assert record["masked_share"] == pytest.approx(0.5 * masked / sum(sent.values()))
    assert masked_share(snn, None) is None


def test_random_masks_are_seeded_and_leave_torch_alone(records):
    ann = next(r for r in records if r["kind"] == "ann" and r["mask"] == 0.5)
    assert 0 <= ann["top1_random_masks"] <= 100
    torch.manual_seed(0)
    net = insert_qcfs(
        create_model("resnet20", num_classes=4, img_size=8, in_chans=1),
        levels=4,
        threshold=1.0,
        mask=0.9,
    )
    loader = [(torch.rand(20, 1, 8, 8), torch.arange(20) % 4)]
    torch.manual_seed(5)
    first = evaluate(net, loader, count=False, check_independence=False)
    after = torch.rand(1)
    again = evaluate(net, loader, count=False, check_independence=False)
    assert first["top1_random_masks"] == again["top1_random_masks"]
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
