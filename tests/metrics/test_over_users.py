from __future__ import annotations

from dataclasses import replace

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.making import predictions
from milp_search.core.errors import MeasurementError
from milp_search.metrics.over_users import by_user, jackknife, mean_of_scores, mean_over_users


def test_the_standard_error_is_the_sample_deviation_over_root_n() -> None:
    measurement = mean_over_users([1.0, 2.0, 6.0])
    # Deviations -2, -1, 3: variance 14 / 2 = 7, standard error sqrt(7 / 3).
    assert measurement.mean == 3.0
    assert measurement.sem == pytest.approx((7 / 3) ** 0.5)
    assert measurement.per_user == (1.0, 2.0, 6.0)


def test_one_user_has_no_standard_error() -> None:
    assert mean_over_users([2.0]).sem is None
    assert jackknife(2.0, np.array([0.0])).sem is None
    assert jackknife(2.0, np.array([0.0])).per_user == (2.0,)


def test_users_count_alike_and_stand_in_the_task_s_order() -> None:
    made = predictions({"b": [("1", ""), ("3", "")], "c": [], "a": [("10", "")]})
    shuffled = replace(made, items=made.items[::-1])
    assert [user for user, _ in by_user(shuffled)] == ["b", "a"]
    measurement = mean_of_scores(shuffled, lambda prediction: float(prediction.reference))
    assert measurement.per_user == (2.0, 10.0)
    assert measurement.mean == 6.0


def test_predictions_for_nobody_or_a_stranger_are_refused() -> None:
    made = predictions({"a": [("x", "x")]})
    with pytest.raises(MeasurementError, match="at least one prediction"):
        by_user(replace(made, items=()))
    with pytest.raises(MeasurementError, match="for another user"):
        by_user(replace(made, items=(replace(made.items[0], user="b"),)))


@hypothesis.settings(deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=8))
def test_the_jackknife_of_a_mean_is_the_mean_s_own_standard_error(values: list[float]) -> None:
    array = np.array(values)
    without = (array.sum() - array) / (len(array) - 1)
    measurement = jackknife(float(array.mean()), without)
    assert measurement.sem == pytest.approx(mean_over_users(values).sem, abs=1e-9)
    assert measurement.per_user == pytest.approx(values, abs=1e-9)
