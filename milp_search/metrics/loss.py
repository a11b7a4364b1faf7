"""Cross-entropy of the true responses."""

from __future__ import annotations

from collections.abc import Sequence

from milp_search.core.errors import MeasurementError
from milp_search.core.records import Prediction, Predictions
from milp_search.core.trial import Measurement
from milp_search.metrics.over_users import by_user, mean_over_users


def loss(predictions: Predictions) -> Measurement:
    """Returns nats per response token: per user over all their tokens, then the mean over users."""
    return mean_over_users([_user_loss(items) for _, items in by_user(predictions)])


def _user_loss(items: Sequence[Prediction]) -> float:
    tokens = sum(item.tokens for item in items)
    if tokens == 0:
        raise MeasurementError("expected response tokens to take the loss over, got none")
    # A response without tokens has no loss; NaN * 0 would spoil the sum.
    return sum(item.loss * item.tokens for item in items if item.tokens) / tokens
