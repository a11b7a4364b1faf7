"""What the studies of a table measured, read from their stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from milp_search.core.trial import Trial
from milp_search.space.row_space import RowSpace
from milp_search.study.charts import by_first
from milp_search.study.outcome import completed
from milp_search.study.study import Study

SeedValues = Mapping[str, tuple[float, ...]]
"""Metric to its value with each seed; seeds whose training failed are missing."""


def row_values(folder: Path) -> dict[str, SeedValues]:
    """Returns what each row measured on the test queries, by label.

    Rows that train the same are one trial and have the same values.
    """
    with Study.open(folder, read_only=True) as study:
        space = study.space
        assert isinstance(space, RowSpace)  # a part of rows
        done = {trial.plan.fingerprint(): trial for trial in completed(study.trials) if trial.plan}
        found = {}
        for label, plan in space.rows.items():
            wanted = [replace(plan, seed=seed).fingerprint() for seed in space.seeds]
            found[label] = _by_metric(
                [
                    {name: one.mean for name, one in done[key].measurements.items()}
                    for key in wanted
                    if key in done
                ]
            )
        return found


def found_values(folder: Path) -> SeedValues:
    """Returns what a search's best trial in the first objective measured on the test queries.

    With each test seed; empty where no trial was tested.
    """
    with Study.open(folder, read_only=True) as study:
        trial = best_trial(study)
        if trial is None:
            return {}
        tests = study.tests(trial.index)
        return _by_metric(
            [{name: one.mean for name, one in tests[seed].items()} for seed in sorted(tests)]
        )


def found_hypervolume(folder: Path) -> float | None:
    """Returns the hypervolume that a search reached, on the validation queries."""
    with Study.open(folder, read_only=True) as study:
        return study.hypervolume()


def best_trial(study: Study) -> Trial | None:
    """Returns the front's best trial in the first objective, None without a front."""
    return next(iter(by_first(study)), None)


def _by_metric(seeds: Sequence[Mapping[str, float]]) -> SeedValues:
    names = dict.fromkeys(name for values in seeds for name in values)
    return {name: tuple(values[name] for values in seeds if name in values) for name in names}
