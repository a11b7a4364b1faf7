"""From values of users to a measurement: mean, standard error over users, the users' values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from milp_search.core.errors import MeasurementError
from milp_search.core.records import Prediction, Predictions
from milp_search.core.trial import Direction, Measurement

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


def conditional_value_at_risk(
    values: Sequence[float], share: float, direction: Direction
) -> Measurement:
    """Returns the mean over the worst share of the users, one user at least.

    With l the users' losses (values to be maximised count negative), z the loss that the share
    begins with and b the share, the value is `z + mean(max(l - z, 0)) / b`. Where `b n` is no
    whole number, the user at the border counts by the part that falls into the share.

    `per_user` holds the terms of that mean, `z + max(l - z, 0) / b`, one for each user, so that
    trials compare user by user; their standard error is that of the estimate for large n. Where
    the share is one user's or less, the error is unknown.

    Source: Rockafellar and Uryasev (2000), Optimization of conditional value-at-risk, Theorem 1,
    and (2002), Conditional value-at-risk for general loss distributions, for the user at the
    border; for the error Trindade et al. (2007), Financial prediction with constrained tail risk.

    Args:
        values: The users' values.
        share: The share of users that counts as the tail, above 0 and below 1.
        direction: Whether small or large values are good.

    Returns:
        The measurement, in the values' own sign.
    """
    sign = 1.0 if direction == "minimize" else -1.0
    losses = sign * np.asarray(values, dtype=np.float64)
    tail = share * len(losses)
    # 0.28 * 25 is 7 and a little: rounding must not take in an eighth user.
    border = np.sort(losses)[-max(math.ceil(tail - 1e-9), 1)]
    if tail <= 1:
        worst = float(sign * border)
        return Measurement(worst, None, (worst,))
    terms = border + np.maximum(losses - border, 0) / share
    # Adding zero makes of -0 a 0.
    return mean_over_users((sign * terms + 0.0).tolist())


def _standard_error(values: Values) -> float | None:
    n = len(values)
    return float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else None
