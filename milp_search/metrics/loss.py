"""Cross-entropy of the true responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from milp_search.core.errors import MeasurementError
from milp_search.core.records import Predictions
from milp_search.core.trial import Measurement
from milp_search.metrics.over_users import by_user, mean_over_users


class Scored(Protocol):
    """A response with its mean loss per token and the number of its tokens."""

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood, nats per token."""
        ...

    @property
    def tokens(self) -> int:
        """The number of tokens behind it."""
        ...


def loss(predictions: Predictions) -> Measurement:
    """Returns nats per response token: per user over all their tokens, then the mean over users."""
    return mean_over_users([nats_per_token(items) for _, items in by_user(predictions)])


def nats_per_token(items: Sequence[Scored]) -> float:
    """Returns the mean loss over all tokens of some responses.

    Raises MeasurementError if they hold no token.
    """
    tokens = sum(item.tokens for item in items)
    if tokens == 0:
        raise MeasurementError("expected response tokens to take the loss over, got none")
    # A response without tokens has no loss; NaN * 0 would spoil the sum.
    return sum(item.loss * item.tokens for item in items if item.tokens) / tokens
