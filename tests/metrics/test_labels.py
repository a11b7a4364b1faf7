from __future__ import annotations

from collections.abc import Mapping, Sequence

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from metrics.making import predictions
from milp_search.core.errors import MeasurementError
from milp_search.core.records import Predictions
from milp_search.metrics.labels import accuracy, macro_f1

LABELS = ("red", "green", "blue")


def made(users: Mapping[str, Sequence[tuple[str, str]]]) -> Predictions:
    return predictions(users, "classification", LABELS)


def test_accuracy_is_the_mean_over_users_of_right_labels() -> None:
    measurement = accuracy(
        made({"a": [("red", " Red\n"), ("red", "reddish")], "b": [("blue", "blue")]})
    )
    assert measurement.per_user == (0.5, 1.0)
    assert measurement.mean == 0.75


def test_macro_f1_by_hand() -> None:
    answers = [("red", "red"), ("red", "green"), ("green", "green"), ("green", "purple")]
    # red: tp 1, fn 1, F1 = 2/3. green: tp 1, fp 1, fn 1, F1 = 1/2. blue: 0.
    measurement = macro_f1(made({"a": answers}))
    assert measurement.mean == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert measurement.sem is None


def test_labels_that_differ_in_case_alone_are_one() -> None:
    answers = {"a": [("red", "RED"), ("Red", "green")]}
    measurement = macro_f1(predictions(answers, "classification", ("Red", "red", "green")))
    # red: tp 1, fn 1, F1 = 2/3. green: fp 1, F1 = 0.
    assert measurement.mean == pytest.approx((2 / 3 + 0) / 2)


@hypothesis.settings(deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, "pink"])),
            min_size=1,
            max_size=5,
        ),
        min_size=2,
        max_size=5,
    )
)
def test_macro_f1_and_its_error_agree_with_scikit_learn(
    users: list[list[tuple[str, str]]],
) -> None:
    def slow(chosen: list[list[tuple[str, str]]]) -> float:
        truth, answer = zip(*[pair for user in chosen for pair in user], strict=True)
        return float(f1_score(truth, answer, labels=LABELS, average="macro", zero_division=0))

    measurement = macro_f1(made({f"u{n}": user for n, user in enumerate(users)}))
    assert measurement.mean == pytest.approx(slow(users))
    left = np.array([slow(users[:i] + users[i + 1 :]) for i in range(len(users))])
    n = len(users)
    variance = (n - 1) / n * ((left - left.mean()) ** 2).sum()
    assert measurement.sem == pytest.approx(variance**0.5, abs=1e-12)
    assert measurement.per_user == pytest.approx(n * slow(users) - (n - 1) * left)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(MeasurementError, match="among the task's labels"):
        macro_f1(made({"a": [("pink", "red")]}))
    nothing = predictions({"a": [("red", None)]}, "classification", LABELS)
    for metric in (accuracy, macro_f1):
        with pytest.raises(MeasurementError, match="expected generated text"):
            metric(nothing)
