"""The table of real trainings as a problem: a trial is a look-up, judged by both seeds' mean."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from method import Outcome, Task
from problem import BUDGET, INITIAL
from trainings import (
    COMMUNITIES,
    FREE,
    ITEMS,
    LAYERS,
    METRICS,
    RANKS,
    SPLITS,
    STUDY,
    TABLE,
    groups,
    plan_of,
)

from milp_search.core.arm import Arm
from milp_search.core.errors import InputError
from milp_search.core.plan import TrialPlan
from milp_search.core.trial import Measurement
from milp_search.search.pareto import non_dominated
from milp_search.space.parameter import Parameter
from milp_search.study.spec_file import load_study_spec

BITS = tuple(f"layer_{layer}" for layer in range(LAYERS - FREE, LAYERS))
PARAMETERS = (
    *(Parameter(name, (False, True)) for name in BITS),
    Parameter("lora_rank", RANKS),
    Parameter("time_splits", SPLITS),
    Parameter("retrieved_items", ITEMS),
    Parameter("communities", COMMUNITIES),
)
_REMEDY = "run python benchmarks/search/trainings.py, which goes on where it stopped"


class Lookup:
    """The quick start's grid; `problem.Problem` says what its methods mean."""

    def __init__(self) -> None:
        self._objectives = load_study_spec(STUDY).objectives
        self.task = Task(PARAMETERS, self._objectives, min(INITIAL, len(PARAMETERS)), BUDGET)
        self.exact = {"trainable_params": self._params}
        self._rows = _rows()

    def plan(self, arm: Arm) -> TrialPlan:
        """Returns what the arm builds."""
        mask = [int(bool(arm[name])) for name in BITS]
        rank, splits, items, communities = (int(arm[one.name]) for one in PARAMETERS[len(BITS) :])
        return plan_of(mask, rank, splits, communities, items)

    def measure(self, arm: Arm, rng: np.random.Generator) -> Outcome:
        """Returns what one of the two seeds measured."""
        trained = self._rows[self.plan(arm).fingerprint()]
        row = trained[int(rng.integers(len(trained)))]
        found = {
            name: Measurement(row[name], row[f"{name}_sem"], tuple(row[f"{name}_per_user"]))
            for name in METRICS
        }
        return found | {"trainable_params": Measurement(float(row["trainable_params"]), 0.0)}

    def truth(self, arm: Arm) -> tuple[float, ...]:
        """Returns the mean of what was measured."""
        return self._mean(self._rows[self.plan(arm).fingerprint()])

    def best_front(self) -> np.ndarray:
        """Returns the front of the whole table."""
        values = np.array([self._mean(rows) for rows in self._rows.values()])
        return values[non_dominated(values, self._objectives)]

    def _mean(self, rows: list[dict[str, Any]]) -> tuple[float, ...]:
        names = [one.metric for one in self._objectives]
        return tuple(float(np.mean([row[name] for row in rows])) for name in names)

    def _params(self, arm: Arm) -> float:
        return float(self._rows[self.plan(arm).fingerprint()][0]["trainable_params"])


@cache
def _rows() -> Mapping[str, list[dict[str, Any]]]:
    """Returns the rows by plan; refuses a table that is not there or misses plans of the grid."""
    import pyarrow.parquet

    if not TABLE.exists():
        raise InputError(f"expected the table {TABLE}, found none", remedy=_REMEDY)
    found: dict[str, list[dict[str, Any]]] = {}
    for row in pyarrow.parquet.read_table(TABLE).to_pylist():
        found.setdefault(row["fingerprint"], []).append(row)
    grid = {plan_of(*group[:-1], items).fingerprint() for group in groups() for items in ITEMS}
    if missing := len(grid - found.keys()):
        raise InputError(
            f"expected all {len(grid)} plans in {TABLE}, {missing} are missing", remedy=_REMEDY
        )
    return found
