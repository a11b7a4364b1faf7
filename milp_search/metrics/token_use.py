"""What prompts cost: tokens that a server counts."""

from __future__ import annotations

from collections.abc import Sequence

from milp_search.core.errors import MeasurementError
from milp_search.core.records import Prediction, Predictions
from milp_search.core.trial import Measurement
from milp_search.metrics.over_users import by_user


def query_tokens(predictions: Predictions) -> Measurement:
    """Returns the mean tokens of a query, its prompt and its answer, over all queries.

    It is what it is, and has no error; `per_user` holds each user's own mean.
    """
    groups = by_user(predictions)
    total = sum(_used(items) for _, items in groups)
    per_user = tuple(_used(items) / len(items) for _, items in groups)
    return Measurement(total / len(predictions.items), 0.0, per_user)


def token_cost(predictions: Predictions) -> Measurement:
    """Returns the tokens of a query with its share of those that the plan's memories took.

    The memories are written once and serve every query; they are shared evenly by all queries that
    were answered, also where only a part of the users is looked at.
    """
    tokens, share = query_tokens(predictions), predictions.memory_share
    if share is None:
        raise _not_counted()
    return Measurement(tokens.mean + share, 0.0, tuple(value + share for value in tokens.per_user))


def _used(items: Sequence[Prediction]) -> int:
    """Returns the tokens of some predictions.

    Raises MeasurementError if nobody counted them.
    """
    counts = [item.used_tokens for item in items]
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        raise _not_counted()
    return sum(known)


def _not_counted() -> MeasurementError:
    return MeasurementError(
        "expected tokens counted by a server, got none: its responses have no whole `usage`",
        remedy="Choose metrics without tokens, or a server that counts.",
    )
