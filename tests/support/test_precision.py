"""TF32 is off inside, for as long as anybody is inside, and as before afterwards."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from spikeswap.support.precision import full_precision, without_tf32


def settings():
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.fixture(params=[(True, False), (True, True), (False, False)])
def before(request):
    kept = settings()
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = request.param
    yield request.param
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = kept


def test_off_inside_and_restored_after_a_failure(before):
    with pytest.raises(KeyError), without_tf32():
        assert settings() == (False, False)
        with without_tf32():
            assert settings() == (False, False)
        assert settings() == (False, False)
        raise KeyError
    assert settings() == before


def test_threads_that_overlap(before):
    inside, may_leave = threading.Event(), threading.Event()
    found = []

    @full_precision
    def work():
        inside.set()
        may_leave.wait(30)
        found.append(settings())

    with without_tf32():
        thread = threading.Thread(target=work)
        thread.start()
        assert inside.wait(30)
    assert settings() == (False, False)  # the other thread still needs it
    may_leave.set()
    thread.join()
    assert found == [(False, False)] and settings() == before


def by_operation():
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    return cuda.matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="since PyTorch 2.9")
@pytest.mark.parametrize("whole", [False, True])
def test_set_by_operation_or_for_all(whole):
    """In a process of its own: these settings cannot all be taken back."""
    code = f"""
import torch
from spikeswap.support.precision import without_tf32
from test_precision import by_operation
if {whole}:
    torch.backends.fp32_precision = "tf32"
else:
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = "ieee"
before = by_operation()
with without_tf32():
    assert by_operation() == ("ieee", "ieee", "ieee"), by_operation()
assert by_operation() == before, by_operation()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
