"""The reference point, where the user gives none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from milp_search.core.errors import MeasurementError
from milp_search.core.trial import Objective, Trial, TrialStatus
from milp_search.search.orientation import Array, signs
from milp_search.search.outcomes import ROUNDING
from milp_search.search.pareto import objective_values

# Of the observed range; BoTorch's `infer_reference_point` pushes out by the same share.
_MARGIN = 0.1


def infer_reference(
    trials: Sequence[Trial], objectives: Sequence[Objective]
) -> tuple[Objective, ...]:
    """Returns the objectives with every missing reference inferred from the completed trials.

    Each missing value is the worst one that a completed trial reached, made worse by a tenth of
    the range from best to worst. Call it once, with the initial trials, and freeze the result:
    hypervolumes compare only under one reference.

    Args:
        trials: The initial trials; only completed ones count.
        objectives: The objectives.

    Returns:
        The objectives, in their order.

    Raises:
        MeasurementError: No trial is completed.
    """
    completed = [trial for trial in trials if trial.status is TrialStatus.COMPLETED]
    missing = [one for one in objectives if one.reference is None]
    if not missing:
        return tuple(objectives)
    filled = iter(with_reference(objective_values(completed, missing), missing))
    return tuple(one if one.reference is not None else next(filled) for one in objectives)


def with_reference(values: Array, objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """Returns the objectives, each missing reference inferred from its column of `n x m` values.

    Args:
        values: In natural units.
        objectives: The `m` objectives.

    Returns:
        The objectives, in their order.

    Raises:
        MeasurementError: There are no values.
    """
    if len(values) == 0:
        raise MeasurementError("expected a completed trial to infer the reference from, got none")
    return tuple(
        one if one.reference is not None else replace(one, reference=_pushed_out(column, one))
        for one, column in zip(objectives, values.T, strict=True)
    )


def _pushed_out(column: Array, objective: Objective) -> float:
    sign = signs([objective])[0]
    worst = sign * (sign * column).min()
    span = float(np.ptp(column))
    # ours: a constant metric has no range; its size, or else one unit, keeps a volume above zero.
    if span <= ROUNDING * abs(worst):
        span = abs(worst) or 1.0
    return float(worst - sign * _MARGIN * span)
