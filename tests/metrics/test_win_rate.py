"""Win rate and the judge's own marks, on scores small enough to check by hand."""

from __future__ import annotations

import math

import pytest

from milp_search.core.errors import MeasurementError
from milp_search.core.judged import Case
from milp_search.metrics.win_rate import Verdicts, agreement, bias, verdicts, win_rate


class Scripted:
    """A judge whose scores are in the responses: `3`, or `3>5` for 5 when swapped."""

    name = "scripted"

    def scores(self, cases: list[Case], *, swapped: bool = False) -> list[int | None]:
        texts = [case.response.split()[0].split(">")[-1 if swapped else 0] for case in cases]
        return [None if text == "x" else int(text) for text in texts]


def cases(*responses: str) -> list[Case]:
    return [Case("content", "query", response) for response in responses]


def test_a_win_is_a_higher_score_and_a_tie_is_none() -> None:
    found = Verdicts((9, 5, 5, 7), (3, 5, 6, 1))
    assert found.ties == 1
    # Anna wins one of two, Bert one of two.
    assert win_rate(found, ["anna", "anna", "bert", "bert"]).mean == 0.5
    # Anna wins one of one, Bert none of two, Carl one of one: every user counts alike.
    rate = win_rate(found, ["anna", "bert", "bert", "carl"])
    assert rate.mean == pytest.approx(2 / 3)
    assert rate.per_user == (1.0, 0.0, 1.0)


def test_answers_that_are_no_score_are_counted_and_left_out() -> None:
    found = verdicts(Scripted(), cases("9", "x", "2"), cases("1", "1", "x"))
    assert found == Verdicts((9, None, 2), (1, 1, None))
    assert found.unparsable == 2
    assert win_rate(found, ["a", "b", "c"]).per_user == (1.0,)


def test_without_any_score_there_is_no_rate() -> None:
    with pytest.raises(MeasurementError, match="none that can be read"):
        win_rate(Verdicts((None,), (3,)), ["a"])


def test_the_order_of_the_prompt_shows_as_shift_and_flips() -> None:
    # The first pair flips from 5:4 to 3:4, the second stays: changes -2, 0, 0, +1.
    ours, rival = cases("5>3", "8"), cases("4", "2>3")
    judge = Scripted()
    found = bias(judge, ours, rival, verdicts(judge, ours, rival))
    assert (found.pairs, found.shift, found.flipped) == (2, -0.25, 0.5)


def test_length_shows_as_a_correlation() -> None:
    ours, rival = cases("9 a b c", "7 a b"), cases("5 a", "1")
    judge = Scripted()
    assert bias(judge, ours, rival, verdicts(judge, ours, rival)).length == pytest.approx(1.0)
    same = cases("5 a", "5 b")
    assert math.isnan(bias(judge, same, same, verdicts(judge, same, same)).length)


def test_agreement_with_people_in_closed_form() -> None:
    # (1, 2), (3, 3), (5, 4): deviations (-2, 0, 2) and (-1, 0, 1), so r = 1.
    found = agreement([1, 3, 5, None], [2.0, 3.0, 4.0, 9.0])
    assert found.pearson == pytest.approx(1.0)
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.within_one == 1.0
    assert (found.unparsable, found.count) == (1, 3)


def test_a_judge_that_always_says_the_same_has_no_correlation() -> None:
    assert math.isnan(agreement([5, 5, 5], [1.0, 5.0, 9.0]).pearson)
    with pytest.raises(MeasurementError):
        agreement([None], [1.0])
