"""From values of users to a measurement: mean, standard error over users, the users' values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from milp_search.core.errors import MeasurementError
from milp_search.core.records import Prediction, Predictions
from milp_search.core.trial import Measurement

Values = npt.NDArray[np.float64]


def by_user(predictions: Predictions) -> list[tuple[str, list[Prediction]]]:
    """Returns each user with their predictions, users in the task's order.

    The order does not depend on how the predictions come, so that trials compare user by user.
    Users without predictions are left out.

    Raises MeasurementError if there are no predictions, or some of nobody in the task.
    """
    groups: dict[str, list[Prediction]] = {target.user: [] for target in predictions.task.targets}
    for item in predictions.items:
        if item.user not in groups:
            raise MeasurementError(
                "expected predictions for the task's targets, got one for another user",
                remedy="Predict for the task that the metrics are given.",
            )
        groups[item.user].append(item)
    found = [(user, items) for user, items in groups.items() if items]
    if not found:
        raise MeasurementError("expected at least one prediction, got none")
    return found


def mean_over_users(values: Sequence[float]) -> Measurement:
    """Returns the mean of the users' values with its standard error s / sqrt(n).

    s is the sample standard deviation (n - 1); with one user the error is unknown.
    """
    array = np.asarray(values, dtype=np.float64)
    return Measurement(float(array.mean()), _standard_error(array), tuple(array.tolist()))


def mean_of_scores(predictions: Predictions, score: Callable[[Prediction], float]) -> Measurement:
    """Returns the mean over users of each user's mean score, so that every user counts alike."""
    groups = by_user(predictions)
    return mean_over_users([float(np.mean([score(p) for p in items])) for _, items in groups])


def jackknife(value: float, without_one: Values) -> Measurement:
    """Returns a value that is no mean over users, with its delete-one-user standard error.

    `per_user` holds the pseudo-values `n value - (n - 1) value_without_user`; their standard error
    is the jackknife's, their differences between two trials allow a paired comparison. Their mean
    is the bias-corrected value and may differ from `value`.

    Source: Efron and Stein (1981), The jackknife estimate of variance.

    Args:
        value: The value over all users.
        without_one: n, the value without each user; ignored for n = 1.

    Returns:
        The measurement, `value` as its mean.
    """
    n = len(without_one)
    if n == 1:
        return Measurement(value, None, (value,))
    pseudo = n * value - (n - 1) * without_one
    return Measurement(value, _standard_error(pseudo), tuple(pseudo.tolist()))


def _standard_error(values: Values) -> float | None:
    n = len(values)
    return float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else None
