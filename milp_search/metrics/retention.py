"""Retention: what a user's adapters cost on texts that have nothing to do with the user."""

from __future__ import annotations

from milp_search.core.errors import MeasurementError
from milp_search.core.records import Predictions
from milp_search.core.trial import Measurement
from milp_search.metrics.over_users import by_user, mean_over_users


def retention(predictions: Predictions) -> Measurement:
    """Returns the mean over users of the loss that their adapters add on other users' texts.

    In nats per token; 0 without an adapter, negative where the adapters help others too.
    `personalize/retention.py` says on which texts.
    """
    users = [user for user, _ in by_user(predictions)]
    if not predictions.retention.keys() >= set(users):
        raise MeasurementError(
            "expected the adapters' cost on other users' texts, got none",
            remedy="Answer with `retention` when a metric with `needs_retention` is asked for.",
        )
    return mean_over_users([predictions.retention[user] for user in users])
