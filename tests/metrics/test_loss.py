from __future__ import annotations

from dataclasses import replace

import pytest

from metrics.making import predictions
from milp_search.core.errors import MeasurementError
from milp_search.core.records import Predictions
from milp_search.metrics.loss import loss


def with_losses(*losses: tuple[float, int]) -> Predictions:
    made = predictions({"a": [("", None)] * 2, "b": [("", None)]})
    items = [
        replace(item, loss=mean, tokens=tokens)
        for item, (mean, tokens) in zip(made.items, losses, strict=True)
    ]
    return replace(made, items=tuple(items))


def test_a_user_s_loss_weighs_tokens_and_the_mean_weighs_users() -> None:
    measurement = loss(with_losses((2.0, 1), (1.0, 3), (4.0, 100)))
    # a: (2 * 1 + 1 * 3) / 4 = 1.25; b: 4.
    assert measurement.per_user == (1.25, 4.0)
    assert measurement.mean == 2.625


def test_a_response_without_tokens_does_not_count() -> None:
    assert loss(with_losses((float("nan"), 0), (1.5, 2), (4.0, 1))).per_user == (1.5, 4.0)


def test_a_user_without_any_token_is_refused() -> None:
    with pytest.raises(MeasurementError, match="expected response tokens"):
        loss(with_losses((2.0, 1), (1.0, 3), (4.0, 0)))


def test_a_loss_that_is_not_finite_is_refused() -> None:
    with pytest.raises(MeasurementError, match="expected a finite mean"):
        loss(with_losses((float("nan"), 1), (1.0, 3), (4.0, 1)))
