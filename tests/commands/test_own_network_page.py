"""docs/own_network.md runs as it is written."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CLONE = Path(__file__).resolve().parents[2]
PAGE = (CLONE / "docs" / "own_network.md").read_text()


@pytest.mark.slow
def test_the_page_runs_from_its_first_line_to_its_last(tmp_path):
    blocks = re.findall(r"```(bash|python)\n(.*?)```", PAGE, re.DOTALL)
    assert [kind for kind, _ in blocks] == ["bash", "bash", "python"]
    for kind, text in blocks:
        text = text.replace("python tools/", f"{sys.executable} {CLONE}/tools/")
        text = text.replace("python - <<", f"{sys.executable} - <<")
        command = ["bash", "-ec", text] if kind == "bash" else [sys.executable, "-c", text]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-2000:]
        if "convert.py" in text:
            assert "held-back images" in done.stdout and "exactly" in done.stdout
    assert (tmp_path / "my_snn" / "conversion.json").is_file()
