"""What prompts cost, on counts small enough to add up by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metrics.making import predictions
from milp_search.core.errors import MeasurementError
from milp_search.core.records import Predictions
from milp_search.metrics.table import measure


def counted(memory_share: float | None = 0.0) -> Predictions:
    """Returns two users' answers: of 10 and 20 tokens, and of 60."""
    made = predictions({"anna": [("r", "g"), ("r", "g")], "bert": [("r", "g")]})
    items = zip(made.items, (10, 20, 60), strict=True)
    return replace(
        made,
        items=tuple(replace(item, used_tokens=tokens) for item, tokens in items),
        memory_share=memory_share,
    )


def test_tokens_of_a_query_are_a_mean_over_queries_and_exact() -> None:
    found = measure(counted(), ["query_tokens"])["query_tokens"]
    assert (found.mean, found.sem, found.per_user) == (30.0, 0.0, (15.0, 60.0))


def test_the_cost_of_a_query_has_its_share_of_notes_and_knowledge() -> None:
    found = measure(counted(5.0), ["token_cost"])["token_cost"]
    assert (found.mean, found.sem, found.per_user) == (35.0, 0.0, (20.0, 65.0))


def test_a_query_has_the_same_share_in_every_part_of_the_users() -> None:
    found = measure(counted(5.0), ["token_cost@cvar50", "token_cost@cvar99"])
    # Bert is the worse half; of both the mean is (.5 * 65 + .49 * 20) / .99.
    assert found["token_cost@cvar50"].mean == pytest.approx(65.0)
    assert found["token_cost@cvar99"].mean == pytest.approx((0.5 * 65 + 0.49 * 20) / 0.99)


def test_what_no_server_counts_is_no_cost() -> None:
    with pytest.raises(MeasurementError, match="no whole `usage`"):
        measure(counted(None), ["token_cost"])
    assert measure(counted(None), ["query_tokens"])["query_tokens"].mean == 30.0
