"""Finished trials as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from milp_search.core.trial import Objective, Trial, TrialStatus
from milp_search.search.domain import Candidate, Domain
from milp_search.search.noise import noise_variances
from milp_search.search.orientation import Array


@dataclass(frozen=True)
class Observations:
    """What `n` completed trials showed.

    Attributes:
        candidates: What each trial built.
        values: The `m` objectives in natural units, shape `n x m`; closed forms are computed.
        noise: Each objective's noise variances, shape `n`; None where unknown or closed-form.
    """

    candidates: tuple[Candidate, ...]
    values: Array
    noise: tuple[Array | None, ...]


def observe(
    trials: Sequence[Trial], domain: Domain, objectives: Sequence[Objective]
) -> Observations:
    """Returns what the usable trials showed, by index; others are left out."""
    known = usable(trials, domain, objectives)
    candidates = tuple(domain.describe(trial.arm) for trial in known)
    columns = [_column(one.metric, known, candidates, domain) for one in objectives]
    noise = tuple(
        noise_variances([trial.measurements[one.metric] for trial in known])
        if one.metric not in domain.exact
        else None
        for one in objectives
    )
    return Observations(candidates, np.array(columns).T.reshape(len(known), -1), noise)


def usable(trials: Sequence[Trial], domain: Domain, objectives: Sequence[Objective]) -> list[Trial]:
    """Returns the completed trials that carry every objective without closed form, by index."""
    measured = {one.metric for one in objectives if one.metric not in domain.exact}
    return sorted(
        (
            trial
            for trial in trials
            if trial.status is TrialStatus.COMPLETED and trial.measurements.keys() >= measured
        ),
        key=lambda trial: trial.index,
    )


def _column(
    metric: str, trials: Sequence[Trial], candidates: Sequence[Candidate], domain: Domain
) -> list[float]:
    if metric in domain.exact:
        position = [*domain.exact].index(metric)
        return [float(candidate.exact[position]) for candidate in candidates]
    return [trial.measurements[metric].mean for trial in trials]
