"""A study's trials in an Ax experiment, and an Ax experiment's trials in a study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from milp_search.core.trial import Measurement, Trial, TrialStatus
from milp_search.study.events import Abandoned, Asked, Completed, Event, Failed, Started
from milp_search.study.reasons import checked_failure

ORIGIN = "ax"


def attach_trials(experiment: Any, trials: Sequence[Trial], metrics: Sequence[str]) -> None:
    """Adds trials to an empty Ax experiment, under their own indices.

    Args:
        experiment: An experiment over the same parameters, with these metrics.
        trials: The trials; those without an end stay running.
        metrics: What of their measurements is attached; an unknown standard error stays so.
    """
    for trial in trials:
        _, index = experiment.attach_trial([dict(trial.arm)])
        twin = experiment.trials[index]
        if trial.status is TrialStatus.COMPLETED:
            found = {metric: trial.measurements[metric] for metric in metrics}
            twin.update_trial_data({metric: _raw(value) for metric, value in found.items()})
            twin.mark_completed()
        elif trial.status is TrialStatus.FAILED:
            twin.mark_failed()
        elif trial.status is TrialStatus.ABANDONED:
            twin.mark_abandoned()


def adopted_events(trial: Trial, seed: int) -> Iterator[Event]:
    """Yields the events that make up the life of a trial which an Ax experiment ran."""
    yield Event(Asked(trial.arm, trial.plan, ORIGIN, seed), trial.index)
    if trial.status is TrialStatus.RUNNING:
        yield Event(Started(), trial.index, 0)
    elif trial.status is TrialStatus.COMPLETED:
        yield Event(Completed(trial.measurements), trial.index)
    elif trial.status is TrialStatus.FAILED:
        failure = checked_failure("told", "failed, or without finite data, in the Ax experiment")
        yield Event(Failed(failure), trial.index)
    elif trial.status is TrialStatus.ABANDONED:
        yield Event(Abandoned("abandoned in the Ax experiment"), trial.index)


def _raw(value: Measurement) -> float | tuple[float, float]:
    return value.mean if value.sem is None else (value.mean, value.sem)
