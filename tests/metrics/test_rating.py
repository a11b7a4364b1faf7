from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.making import predictions
from milp_search.core.errors import MeasurementError
from milp_search.metrics.rating import mae, parse_rating, rmse


def test_errors_by_hand() -> None:
    made = predictions({"a": [("5", "4"), ("3", "3")], "b": [("1", " 3.5\n")]}, "rating")
    assert mae(made).per_user == (0.5, 2.5)
    assert mae(made).mean == 1.5
    assert rmse(made).mean == pytest.approx(((1 + 0 + 6.25) / 3) ** 0.5)


@pytest.mark.parametrize("answer", ["", "five", "nan", "inf", "6", "0", "4 of 5"])
@pytest.mark.parametrize(("truth", "error"), [("5", 4.0), ("4", 3.0), ("3", 2.0), ("1", 4.0)])
def test_no_rating_counts_as_the_farther_end(answer: str, truth: str, error: float) -> None:
    made = predictions({"a": [(truth, answer)]}, "rating")
    assert mae(made).mean == error
    assert rmse(made).mean == error
    assert rmse(made).sem is None


def test_a_rating_is_a_number_in_range() -> None:
    assert parse_rating(" 4.5 ", (1.0, 5.0)) == 4.5
    assert parse_rating("0", (0.0, 5.0)) == 0.0


@hypothesis.settings(deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=5),
        min_size=2,
        max_size=5,
    )
)
def test_the_error_of_rmse_is_the_slow_delete_one_jackknife(
    users: list[list[tuple[int, int]]],
) -> None:
    def slow(chosen: list[list[tuple[int, int]]]) -> float:
        return float(np.mean([(a - b) ** 2 for user in chosen for a, b in user]) ** 0.5)

    texts = {f"u{i}": [(str(a), str(b)) for a, b in user] for i, user in enumerate(users)}
    measurement = rmse(predictions(texts, "rating"))
    assert measurement.mean == pytest.approx(slow(users))
    left = np.array([slow(users[:i] + users[i + 1 :]) for i in range(len(users))])
    n = len(users)
    variance = (n - 1) / n * ((left - left.mean()) ** 2).sum()
    assert measurement.sem == pytest.approx(variance**0.5, abs=1e-9)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(MeasurementError, match="a rating in range as every reference"):
        mae(predictions({"a": [("good", "4")]}, "rating"))
    with pytest.raises(MeasurementError, match="expected generated text"):
        rmse(predictions({"a": [("4", None)]}, "rating"))
