"""Where the other modules lie; imported before them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Machines are described in the first; the second has the server that misbehaves in tests, too.
sys.path[1:1] = [str(HERE.parent / "trials"), str(HERE.parents[1] / "tests")]
