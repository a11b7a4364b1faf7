from __future__ import annotations

from dataclasses import replace

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.making import predictions
from milp_search.core.errors import MeasurementError
from milp_search.core.trial import Direction
from milp_search.metrics.over_users import (
    by_user,
    conditional_value_at_risk,
    jackknife,
    mean_of_scores,
    mean_over_users,
)


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


EIGHT = [3.0, 1.0, 8.0, 2.0, 6.0, 4.0, 7.0, 5.0]


def test_cvar_is_the_mean_over_the_worst_share_in_the_direction_of_the_metric() -> None:
    assert conditional_value_at_risk(EIGHT, 0.25, "minimize").mean == pytest.approx((8 + 7) / 2)
    assert conditional_value_at_risk(EIGHT, 0.25, "maximize").mean == pytest.approx((1 + 2) / 2)


def test_the_user_at_the_border_of_the_tail_counts_in_part() -> None:
    # 30 % of 8 are 2.4 users: 8, 7 and .4 of 6.
    found = conditional_value_at_risk(EIGHT, 0.3, "minimize")
    assert found.mean == pytest.approx((8 + 7 + 0.4 * 6) / 2.4)


def test_the_terms_of_cvar_belong_to_the_users_in_order() -> None:
    found = conditional_value_at_risk(EIGHT, 0.25, "minimize")
    # z = 7; 7 + (8 - 7) / .25 = 11 for the third user, 7 for all others: mean 7.5.
    assert found.per_user == (7.0, 7.0, 11.0, 7.0, 7.0, 7.0, 7.0, 7.0)
    # Deviations 3.5 and seven times -.5: variance (12.25 + 1.75) / 7 = 2.
    assert found.sem == pytest.approx((2 / 8) ** 0.5)


@pytest.mark.parametrize(("direction", "worst"), [("minimize", 8.0), ("maximize", 1.0)])
def test_a_share_of_one_user_or_less_is_the_worst_user(direction: Direction, worst: float) -> None:
    for share in (0.01, 1 / 8):
        found = conditional_value_at_risk(EIGHT, share, direction)
        assert (found.mean, found.sem, found.per_user) == (worst, None, (worst,))


def test_users_who_are_equally_bad_count_alike() -> None:
    found = conditional_value_at_risk([0.0, 0.5, 0.0, 0.0], 0.5, "maximize")
    assert found.per_user == (0.0, 0.0, 0.0, 0.0)
    assert str(found.mean) == "0.0"


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12), st.floats(0.05, 0.95))
def test_cvar_is_the_least_value_of_its_representation(values: list[float], share: float) -> None:
    def bound(z: float) -> float:
        return z + float(np.mean([max(value - z, 0.0) for value in values])) / share

    # Convex and piecewise linear in z, with kinks at the values: the least is at one of them.
    least = min(bound(z) for z in values)
    found = conditional_value_at_risk(values, share, "minimize")
    assert found.mean == pytest.approx(least, abs=1e-9)


def test_a_share_that_rounding_makes_larger_takes_in_nobody_more() -> None:
    assert 0.28 * 25 > 7
    values = [float(n) for n in range(25)]
    found = conditional_value_at_risk(values, 0.28, "minimize")
    assert found.per_user[17] == found.per_user[0] == 18.0


def test_the_error_of_cvar_is_the_spread_of_its_estimates() -> None:
    rng = np.random.default_rng(0)
    samples = [
        conditional_value_at_risk(rng.normal(size=200).tolist(), 0.25, "minimize")
        for _ in range(400)
    ]
    spread = np.std([one.mean for one in samples], ddof=1)
    claimed = np.mean([one.sem for one in samples if one.sem is not None])
    assert claimed == pytest.approx(spread, rel=0.1)
