"""Several processes give the same record as one, without counting an image twice."""

import json
import os
import subprocess
import sys

SCRIPT = """
import json, pathlib, sys
import torch
from torch import nn
from spikeswap.convert import convert_model, insert_qcfs
from spikeswap.distributed import (barrier, rank, start_process_group, stop_process_group,
                                   world_size)
from spikeswap.evaluate import evaluate
start_process_group(torch.device("cpu"))
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
ann = insert_qcfs(model, levels=4, threshold=0.5, mask=0.5).eval().double()
images, labels = torch.rand(7, 1, 4, 4).double(), torch.arange(7) % 3
snn = convert_model(ann)
parts = [(0, 7)] if world_size() == 1 else [(0, 5), (5, 7), (7, 7)]
first, last = parts[rank()]
loader = [(images[first:last], labels[first:last])]
record = evaluate(snn, loader, timesteps=6, ann=ann, first_index=first, early_exit=0.5)
for key in ("images_per_second", "peak_memory_bytes"):
    del record[key]
pathlib.Path(__file__).with_name(f"record{rank()}.json").write_text(json.dumps(record))
barrier()
stop_process_group()
"""


def _run(processes, tmp_path):
    script = tmp_path / "evaluate_it.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script)]
    if processes > 1:
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc_per_node={processes}",
            str(script),
        ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    written = {n: script.with_name(f"record{n}.json") for n in range(processes)}
    found = {n: json.loads(path.read_text()) for n, path in written.items()}
    for path in written.values():
        path.unlink()
    return found


def test_three_processes_one_of_them_without_images(tmp_path):
    alone = _run(1, tmp_path)[0]
    together = _run(3, tmp_path)
    assert len(together) == 3
    for record in together.values():
        assert record == alone
    assert alone["images"] == 7
