"""Observation noise for the surrogate: what differs between trials, not between users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from milp_search.core.trial import Measurement
from milp_search.search.orientation import Array


def noise_variances(measurements: Sequence[Measurement]) -> Array | None:
    """Returns one metric's noise variance in each trial, shape `n`, or None where it is unknown.

    All trials see the same users. A standard error over users is therefore mostly a shift that
    all trials share, which does not blur their comparison; taken as noise it would drown every
    difference. Trials with values per user get the within-user standard error instead; the
    others keep the standard error they report. One trial with neither makes all unknown. A metric
    that is exact in every trial has no noise, however its users differ.
    """
    if all(measurement.sem == 0 for measurement in measurements):
        return np.zeros(len(measurements))
    variances = [
        None if measurement.sem is None else measurement.sem**2 for measurement in measurements
    ]
    paired = _paired(measurements)
    if len(paired) > 1:
        errors = within_user_sem(np.array([measurements[row].per_user for row in paired]))
        for row, error in zip(paired, errors, strict=True):
            variances[row] = float(error) ** 2
    known = [variance for variance in variances if variance is not None]
    return np.array(known) if len(known) == len(measurements) else None


def within_user_sem(values: Array) -> Array:
    """Returns each trial's standard error once differences between users are removed, shape `n`.

    Args:
        values: Shape `n x U`, n > 1 trials by U > 1 users.

    Returns:
        The standard errors.

    Source: Cousineau, "Confidence intervals in within-subject designs", 2005, with the
    correction n / (n - 1) of Morey, "Confidence intervals from normalized data", 2008, Eq. 2.
    """
    trials, users = values.shape
    residuals = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    spread = (residuals**2).sum(axis=1) / (users - 1)
    return np.asarray(np.sqrt(spread * trials / (trials - 1) / users))


def _paired(measurements: Sequence[Measurement]) -> list[int]:
    """Returns the trials whose values per user compare: those of the commonest number of users."""
    lengths = [len(measurement.per_user) for measurement in measurements]
    counts = Counter(length for length in lengths if length > 1)
    if not counts:
        return []
    usual = max(counts, key=lambda length: (counts[length], length))
    return [
        row
        for row, measurement in enumerate(measurements)
        if lengths[row] == usual and np.isfinite(measurement.per_user).all()
    ]
