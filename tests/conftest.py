"""Settings of all tests."""

from __future__ import annotations

import os
import sys

from hypothesis import settings

# Two threads under contention are many times slower than one, and sums come out differently.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Models and surrogates take their time, and more of it on a busy machine: no deadline per example.
settings.register_profile("milp-search", deadline=None)
settings.load_profile("milp-search")


def pytest_runtest_setup() -> None:
    """Holds torch, once a test has imported it, to one thread."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
