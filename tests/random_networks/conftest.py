"""The generator and the proof are plain modules beside the tests, and a script of their own."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
