"""The commands as a user starts them: real processes in an empty folder."""

import json
import os
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


class Starter:
    """Runs tools/NAME; see prefork.py for how."""

    def __init__(self, folder: Path):
        self.folder, self.count = folder, 0
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("prefork.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdout.readline().strip() == "ready"

    def __call__(
        self, tool, *words, cwd: Path, largest_file=None, no_override=False, env=None
    ) -> Result:
        """Args:
        tool: name in tools/, or the path of a script.
        largest_file: bytes; plays a disk that is full.
        no_override: root writes only where it may.
        """
        self.count += 1
        job = {
            "argv": [str(TOOLS / tool), *map(str, words)],
            "cwd": str(cwd),
            "out": str(self.folder / f"{self.count}.out"),
            "err": str(self.folder / f"{self.count}.err"),
            "largest_file": largest_file,
            "no_override": no_override,
            "env": env or {},
        }
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        code = int(self.process.stdout.readline())
        out, err = (Path(job[name]).read_text() for name in ("out", "err"))
        return Result(Path(tool).name, code, out, err)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="session")
def tool(tmp_path_factory):
    """Start a command: `tool("convert.py", "--T", 4, cwd=folder)`."""
    starter = Starter(tmp_path_factory.mktemp("answers"))
    yield starter
    starter.process.stdin.close()
    starter.process.wait(timeout=60)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, tool) -> Path:
    """A folder with tiny.yaml and runs/tiny_fake, trained for two epochs. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(TINY)
    tool("train_qcfs.py", "--cfg", "./tiny.yaml", cwd=folder).worked()
    return folder


@pytest.fixture
def files_of():
    """`tree`."""
    return tree
