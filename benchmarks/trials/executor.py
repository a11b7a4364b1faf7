"""What a trial costs in the executor beyond its training."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from milp_search.dispatch.overhead import measure_overhead
from milp_search.study.spec import DispatchSettings

TRIALS = 40


def overheads(repeats: int, *, ray: bool) -> list[dict[str, Any]]:
    """Returns a row per executor and size of packs."""
    executors = {"in this process": DispatchSettings(local=True, pack=1)}
    executors["in this process, packs of 4"] = DispatchSettings(local=True, pack=4)
    if ray:
        executors["Ray, 1 worker"] = DispatchSettings(pack=1)
        executors["Ray, 2 workers"] = DispatchSettings(parallel=2, pack=1)
        executors["Ray, 2 workers, packs of 2"] = DispatchSettings(parallel=2, pack=2)
    rows = []
    for name, settings in executors.items():
        row: dict[str, Any] = {"executor": name, "first_s": [], "per_trial_s": []}
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as folder:
                overhead = measure_overhead(Path(folder) / "study", settings, TRIALS)
            row["first_s"].append(overhead.first_s)
            row["per_trial_s"].append(overhead.per_trial_s)
        rows.append(row)
    return rows
