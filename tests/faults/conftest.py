"""The fault benchmark's modules, which the tests run on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

FAULTS = Path(__file__).parents[2] / "benchmarks" / "faults"
sys.path.insert(0, str(FAULTS))

SOAK = os.environ.get("MILP_SOAK") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves the whole matrix, which takes hours, to those who ask for it."""
    for item in items:
        if "test_whole_matrix" in item.nodeid and not SOAK:
            item.add_marker(pytest.mark.skip(reason="takes hours; set MILP_SOAK=1"))
