"""Win rate and the judge's own marks, on scores small enough to check by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from milp_search.core.errors import MeasurementError
from milp_search.core.judged import PairScore
from milp_search.core.records import PersonalizationTask, Prediction, Predictions, UserTask
from milp_search.core.trial import Measurement
from milp_search.metrics.win_rate import (
    agreement,
    judge_checks,
    judge_flipped,
    judge_length,
    judge_shift,
    judge_ties,
    judge_unparsable,
    win_rate,
    win_rate_offline,
)

Pair = tuple[int | None, int | None]


def judged(
    *pairs: Pair,
    users: str = "",
    swapped: Sequence[Pair | None] = (),
    texts: Sequence[str] = (),
    kind: str = "model",
) -> Predictions:
    """Returns predictions with these scores, of users named by a letter each."""
    names = users or "a" * len(pairs)
    task = PersonalizationTask(
        "t", "text", tuple(UserTask(name, (), (), ()) for name in dict.fromkeys(names))
    )
    items = tuple(
        Prediction(
            name, "q", "r", texts[n] if texts else "x", math.nan, 0,
            judged={kind: PairScore(*pair, swapped=swapped[n] if swapped else None)},
        )
        for n, (name, pair) in enumerate(zip(names, pairs, strict=True))
    )  # fmt: skip
    return Predictions(items, task)


def test_a_win_is_a_higher_score_and_a_tie_is_none() -> None:
    pairs: tuple[Pair, ...] = ((9, 3), (5, 5), (5, 6), (7, 1))
    assert judge_ties(judged(*pairs)).mean == 0.25
    # Anna wins one of two, Bert one of two.
    assert win_rate(judged(*pairs, users="aabb")).mean == 0.5
    # Anna wins one of one, Bert none of two, Carl one of one: every user counts alike.
    rate = win_rate(judged(*pairs, users="abbc"))
    assert rate.mean == pytest.approx(2 / 3)
    assert rate.per_user == (1.0, 0.0, 1.0)


def test_answers_that_are_no_score_are_counted_and_left_out() -> None:
    found = judged((9, 1), (None, 1), (2, None), users="abc")
    # Which of the users it is cannot be told from the values.
    assert win_rate(found) == Measurement(1.0, None, ())
    assert judge_unparsable(found).mean == pytest.approx(2 / 6)
    again = judged((9, 1), (None, 1), swapped=[(None, None), None])
    assert judge_unparsable(again).mean == pytest.approx(3 / 6)


def test_checks_of_a_judge_leave_out_what_has_nothing_to_compare() -> None:
    whole = judge_checks(judged((9, 1), (4, 4), swapped=[(9, 1), None]))
    assert {name: value.mean for name, value in whole.items()} == {
        "judge_unparsable": 0.0, "judge_ties": 0.5, "judge_flipped": 0.0, "judge_shift": 0.0,
        "judge_length": 0.0,
    }  # fmt: skip
    nothing = judge_checks(judged((None, 3), swapped=[(None, None)]))
    assert {name: value.mean for name, value in nothing.items()} == {
        "judge_unparsable": 0.75, "judge_length": 0.0
    }  # fmt: skip


def test_the_two_kinds_of_judges_are_never_mixed_up() -> None:
    found = judged((9, 1), kind="offline")
    assert win_rate_offline(found).mean == 1.0
    with pytest.raises(MeasurementError, match="that were judged"):
        win_rate(found)


def test_the_order_of_the_prompt_shows_as_shift_and_flips() -> None:
    # The first pair flips from 5:4 to 3:4, the second stays: changes -2, 0, 0, +1.
    found = judged((5, 4), (8, 2), (1, 9), swapped=[(3, 4), (8, 3), None])
    assert judge_flipped(found).mean == 0.5
    assert judge_shift(found).mean == 0.25


def test_length_shows_as_a_correlation_whatever_its_sign() -> None:
    texts = ["a b c", "a b", "a"]
    assert judge_length(judged((9, 1), (7, 1), (5, 1), texts=texts)).mean == pytest.approx(1.0)
    assert judge_length(judged((5, 1), (7, 1), (9, 1), texts=texts)).mean == pytest.approx(1.0)
    assert judge_length(judged((5, 1), (5, 1), (5, 1), texts=texts)).mean == 0.0


@pytest.mark.parametrize("metric", [win_rate, judge_ties, judge_flipped, judge_shift])
def test_without_any_score_there_is_no_value(metric: Callable[[Predictions], Measurement]) -> None:
    with pytest.raises(MeasurementError, match="scores of the judge"):
        metric(judged((None, 3), swapped=[(None, None)]))


def test_agreement_with_people_in_closed_form() -> None:
    # (1, 2), (3, 3), (5, 4): deviations (-2, 0, 2) and (-1, 0, 1), so r = 1.
    found = agreement([1, 3, 5, None], [2.0, 3.0, 4.0, 9.0])
    assert found.pearson == pytest.approx(1.0)
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.within_one == 1.0
    assert (found.unparsable, found.count) == (1, 3)


def test_a_judge_that_always_says_the_same_has_no_correlation() -> None:
    assert math.isnan(agreement([5, 5, 5], [1.0, 5.0, 9.0]).pearson)
    with pytest.raises(MeasurementError, match="none that can be read"):
        agreement([None], [1.0])
