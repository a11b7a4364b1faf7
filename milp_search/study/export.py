"""`trials.csv` and `front.json`: the study for other programs, from its events alone."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from statistics import fmean
from typing import Any

from milp_search.core.trial import Measurement, Trial
from milp_search.core.whole_file import write_whole
from milp_search.study.events import Measurements
from milp_search.study.study import Study

TRIALS_NAME = "trials.csv"
FRONT_NAME = "front.json"

# A spreadsheet takes text that begins so for a formula; some take the full-width forms, too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

# Exact and known before a trial has run, hence a column of its own without `_sem`.
_PARAMETERS = "trainable_params"


def export(study: Study, folder: Path | None = None) -> tuple[Path, Path]:
    """Writes `trials.csv` and `front.json`, by default into the study's folder."""
    folder = study.folder if folder is None else folder
    return (
        write_whole(folder / TRIALS_NAME, trials_csv(study)),
        write_whole(folder / FRONT_NAME, front_json(study)),
    )


def trials_csv(study: Study) -> str:
    """Returns one line per trial under a header; numbers in full precision, empty is unknown."""
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    parameters = [axis.name for axis in study.space.parameters]
    metrics = metric_names(study)
    measured = [column for metric in metrics for column in (metric, f"{metric}_sem")]
    header = ["trial", "status", "origin", *parameters, *measured]
    header += [_PARAMETERS, "duration_s", "failure"]
    table.writerow([csv_cell(name) for name in header])
    for trial in study.trials:
        row = [trial.index, str(trial.status), trial.origin]
        row += [trial.arm.get(name) for name in parameters]
        row += [value for metric in metrics for value in _pair(trial.measurements.get(metric))]
        row += [_parameter_count(study, trial), trial.duration_s, _failure(trial)]
        table.writerow([csv_cell(value) for value in row])
    return text.getvalue()


def front_json(study: Study) -> str:
    """Returns objectives, constraints, hypervolume, its trace and the front's trials.

    A hypervolume is null until references are known, and where no number can hold it.
    """
    values = {
        "objectives": [
            {"metric": goal.metric, "direction": goal.direction, "reference": goal.reference}
            for goal in study.objectives
        ],
        "constraints": [
            {"metric": one.metric, "relation": one.relation, "bound": one.bound}
            for one in study.constraints
        ],
        "hypervolume": finite(study.hypervolume()),
        "hypervolume_trace": [finite(value) for value in study.hypervolume_trace()],
        "trials": [_front_trial(study, trial) for trial in study.front()],
    }
    return json.dumps(values, indent=2, allow_nan=False) + "\n"


def finite(value: float | None) -> float | None:
    """Returns the value, None for what JSON has no number for: products of large metrics."""
    return value if value is not None and math.isfinite(value) else None


def metric_names(study: Study) -> list[str]:
    """Returns every metric that was told, the objectives first, without `trainable_params`."""
    goals = [goal.metric for goal in study.objectives]
    told = sorted({metric for trial in study.trials for metric in trial.measurements})
    return [metric for metric in dict.fromkeys([*goals, *told]) if metric != _PARAMETERS]


def over_seeds(tests: Mapping[int, Measurements]) -> dict[str, Measurement]:
    """Returns each test metric's mean over the seeds.

    The standard error is the root mean square of the seeds' own: all seeds answer the same
    users' queries, so that more seeds do not make the users more.
    """
    metrics = sorted({metric for of_seed in tests.values() for metric in of_seed})
    return {
        metric: _pooled([of_seed[metric] for of_seed in tests.values() if metric in of_seed])
        for metric in metrics
    }


def _pooled(values: Sequence[Measurement]) -> Measurement:
    mean = fmean(value.mean for value in values)
    sems = [value.sem for value in values if value.sem is not None]
    return Measurement(mean, math.sqrt(fmean(sem**2 for sem in sems)) if sems else None)


def _front_trial(study: Study, trial: Trial) -> dict[str, Any]:
    values = {
        "trial": trial.index,
        "arm": dict(trial.arm),
        "plan": None if trial.plan is None else trial.plan.as_dict(),
        "measurements": _plain(trial.measurements),
    }
    tests = study.tests(trial.index)
    if tests:
        seeds = {str(seed): _plain(of_seed) for seed, of_seed in tests.items()}
        values["test"] = _plain(over_seeds(tests))
        values["test_seeds"] = seeds
    return values


def _plain(measurements: Measurements) -> dict[str, dict[str, float | None]]:
    return {
        metric: {"mean": value.mean, "sem": value.sem} for metric, value in measurements.items()
    }


def _pair(value: Measurement | None) -> tuple[float | None, float | None]:
    return (None, None) if value is None else (value.mean, value.sem)


def _parameter_count(study: Study, trial: Trial) -> float | None:
    told = trial.measurements.get(_PARAMETERS)
    if told is None:
        return study.trainable_params(trial)
    return int(told.mean) if told.mean.is_integer() else told.mean


def _failure(trial: Trial) -> str | None:
    return None if trial.failure is None else f"{trial.failure.kind}: {trial.failure.reason}"


def csv_cell(value: object) -> str:
    """Returns a value as a cell that no spreadsheet takes for a formula; None is empty."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return repr(value)
