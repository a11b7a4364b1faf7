from __future__ import annotations

from dataclasses import replace

import pytest

from metrics.making import predictions
from milp_search.core.errors import MeasurementError
from milp_search.metrics.retention import retention

MADE = predictions({"a": [("x", None)], "b": [("x", None)]})


def test_retention_is_the_mean_of_the_users_costs_in_the_task_s_order() -> None:
    found = retention(replace(MADE, retention={"b": 0.5, "a": -0.25}))
    assert found.per_user == (-0.25, 0.5)
    assert found.mean == 0.125


def test_a_user_without_a_cost_is_refused() -> None:
    with pytest.raises(MeasurementError, match="cost on other users' texts, got none"):
        retention(replace(MADE, retention={"b": 0.5}))
