"""What a search method is tried on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from method import Outcome, Task

from milp_search.core.arm import Arm
from milp_search.core.plan import TrialPlan

# Trials of every method's initial design, and of a run.
INITIAL, BUDGET = 20, 100


class Problem(Protocol):
    """A problem with known truth; a method is shown measurements and judged by the truth."""

    @property
    def task(self) -> Task:
        """What a method knows."""

    @property
    def exact(self) -> Mapping[str, Callable[[Arm], float]]:
        """The objectives that a plan tells without a trial, in natural units."""

    def plan(self, arm: Arm) -> TrialPlan:
        """Returns what the arm builds."""

    def measure(self, arm: Arm, rng: np.random.Generator) -> Outcome:
        """Returns what a trial of the arm shows, None where it fails."""

    def truth(self, arm: Arm) -> tuple[float, ...] | None:
        """Returns the objectives without noise, None where every trial fails."""

    def best_front(self) -> np.ndarray:
        """Returns the truth of the best arms known, shape `n x m`; its hypervolume counts as 1."""
