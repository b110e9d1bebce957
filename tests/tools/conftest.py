"""The commands as a user starts them: real processes in an empty folder."""

import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"

TINY = """
MODEL:
  NAME: swin_nano_bn
  OVERRIDES: {embed_dim: 8, depths: [1, 1], num_heads: [1, 2], patch_size: 4, window_size: 4}
  LEVELS: 4
  MASK: 0.5
DATA: {NAME: fake, IMG_SIZE: 32}
TRAIN: {EPOCHS: 2, BATCH_SIZE: 64, LR: 0.002}
CONVERT: {TIMESTEPS: 4}
"""


@dataclass
class Result:
    """What a command answered."""

    tool: str
    code: int
    out: str
    err: str

    def refused(self, *words: str) -> None:
        """It ended with status 2, the message as the last line, and no traceback."""
        shown = f"{self.out}\n{self.err}"
        assert self.code == 2, shown
        assert "Traceback" not in self.err, shown
        last = self.err.strip().splitlines()[-1]
        assert last.startswith(f"{self.tool}: error: "), shown
        for word in words:
            assert word in last, (word, last)

    def worked(self) -> str:
        assert self.code == 0, f"{self.out}\n{self.err}"
        return self.out


def run_tool(tool: str, *words, cwd: Path, largest_file: int | None = None, **popen) -> Result:
    """Run tools/NAME with these words; `largest_file` (bytes) plays a disk that is full."""

    def limit():
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, str(TOOLS / tool), *map(str, words)],
        cwd=cwd,
        env={**environment, **popen.pop("env", {})},
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=limit,
        **popen,
    )
    return Result(tool, done.returncode, done.stdout, done.stderr)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder with tiny.yaml and runs/tiny_fake, trained for two epochs. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(TINY)
    run_tool("train_qcfs.py", "--cfg", "./tiny.yaml", cwd=folder).worked()
    return folder


@pytest.fixture
def tool():
    """`run_tool`."""
    return run_tool


@pytest.fixture
def files_of():
    """`tree`."""
    return tree
