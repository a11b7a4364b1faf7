"""Errors of ratings.

An answer that is no number within the task's range counts as the end of the range that is farther
from the truth (LaMP's evaluation), so that refusing to answer never pays. LaMP takes a number
outside of the range as it is; here it is no rating, which bounds the error.
"""

from __future__ import annotations

import numpy as np

from milp_search.core.errors import MeasurementError
from milp_search.core.records import Predictions
from milp_search.core.trial import Measurement
from milp_search.metrics.generated import generated_text
from milp_search.metrics.over_users import Values, by_user, jackknife, mean_over_users


def mae(predictions: Predictions) -> Measurement:
    """Returns the mean over users of their mean absolute error, in rating points."""
    return mean_over_users([float(np.abs(user).mean()) for user in _errors(predictions)])


def rmse(predictions: Predictions) -> Measurement:
    """Returns the root of the mean squared error over all predictions, in rating points.

    It is no mean over users: see `jackknife`.
    """
    errors = _errors(predictions)
    squares = np.array([(user**2).sum() for user in errors])
    sizes = np.array([len(user) for user in errors])
    whole = float(np.sqrt(squares.sum() / sizes.sum()))
    # A single user's jackknife is not looked at; the guard avoids 0 / 0.
    left = np.maximum(sizes.sum() - sizes, 1)
    # Rounding may leave a tiny negative sum.
    return jackknife(whole, np.sqrt(np.maximum(squares.sum() - squares, 0) / left))


def parse_rating(text: str, rating_range: tuple[float, float]) -> float | None:
    """Returns the number that a text is, None if it is none or out of range."""
    try:
        rating = float(text)
    except ValueError:
        return None
    low, high = rating_range
    # NaN is in no range.
    return rating if low <= rating <= high else None


def _errors(predictions: Predictions) -> list[Values]:
    span = predictions.task.rating_range
    return [
        np.array([_error(generated_text(p), p.reference, span) for p in items])
        for _, items in by_user(predictions)
    ]


def _error(answer: str, reference: str, rating_range: tuple[float, float]) -> float:
    truth = parse_rating(reference, rating_range)
    if truth is None:
        raise MeasurementError("expected a rating in range as every reference, got something else")
    rating = parse_rating(answer, rating_range)
    if rating is None:
        rating = max(rating_range, key=lambda end: abs(end - truth))
    return rating - truth
