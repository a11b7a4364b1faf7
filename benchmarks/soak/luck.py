"""What becomes of each attempt of a trial, drawn by a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from typing import Literal

Fate = Literal["completed", "exception", "non_finite", "out_of_memory", "hang", "lost_worker"]


@dataclass(frozen=True)
class Luck:
    """The share of attempts that meet each misfortune.

    Attributes:
        seed: Of the draws.
        exception: Raise an exception.
        non_finite: Measure NaN.
        out_of_memory: Ask for more memory than there is.
        hang: Go beyond the time limit, so that the watchdog ends their worker.
        lost_worker: Have their worker killed by SIGKILL.
    """

    seed: int = 0
    exception: float = 0.03
    non_finite: float = 0.02
    out_of_memory: float = 0.02
    hang: float = 0.005
    lost_worker: float = 0.01

    def fate(self, trial: int, attempt: int) -> Fate:
        """Returns what becomes of an attempt."""
        drawn = random.Random(f"{self.seed}/{trial}/{attempt}").random()
        for name in (field.name for field in fields(self) if field.name != "seed"):
            drawn -= getattr(self, name)
            if drawn < 0:
                fate: Fate = name  # type: ignore[assignment]
                return fate
        return "completed"


def formula(trial: int) -> dict[str, float]:
    """Returns what a trial measures when all goes well."""
    return {"loss": 1.0 + trial * 0.6180339887 % 1, "rouge_l": trial * 0.7548776662 % 1}
