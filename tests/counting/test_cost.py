"""What counting costs: at most a quarter on top of the evaluation's time."""

import statistics
import time

import pytest
import torch

from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.evaluate import evaluate
from spikeswap.models import create_model

BUDGET = 0.25  # of the time of the evaluation without counting


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "steps", "images"),
    [("swin_nano_bn", 64, 50), ("resnet20", 32, 20), ("swin_t_bn", 16, 50)],
)
def test_counting_adds_at_most_a_quarter_to_the_evaluation(name, steps, images):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(0)
        more = {"patch_size": 4, "window_size": 4} if "nano" in name else {}
        network = create_model(name, num_classes=10, img_size=32, in_chans=1, **more)
        network.train()
        network(torch.rand(16, 1, 32, 32))
        mask = 0.75 if "swin" in name else 0.0
        ann = insert_qcfs(network, levels=16, threshold=2.0, mask=mask).eval()
        snn = convert_model(ann)
        loader = [(torch.rand(images, 1, 32, 32), torch.randint(0, 10, (images,)))]

        def seconds(count: bool) -> float:
            start = time.process_time()  # of this process: neighbours on the machine do not count
            evaluate(snn, loader, timesteps=steps, ann=ann, count=count, check_independence=False)
            return time.process_time() - start

        seconds(True)  # chunk size and caches
        pairs = [(seconds(False), seconds(True)) for _ in range(5)]
        plain, counted = (statistics.median(column) for column in zip(*pairs, strict=True))
        assert (counted - plain) / plain <= BUDGET, (plain, counted)
    finally:
        torch.set_num_threads(threads)
