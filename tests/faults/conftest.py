"""The fault benchmark's modules, which the tests run on."""

from __future__ import annotations

import sys
from pathlib import Path

FAULTS = Path(__file__).parents[2] / "benchmarks" / "faults"
sys.path.insert(0, str(FAULTS))
