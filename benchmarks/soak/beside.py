"""Where the other modules lie; imported before them, for workers have to find these as well."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Machines are described there.
sys.path[1:1] = [str(HERE.parent / "trials")]
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
