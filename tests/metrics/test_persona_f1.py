from __future__ import annotations

import pytest

from metrics.making import predictions
from milp_search.core.errors import MeasurementError
from milp_search.metrics.persona_f1 import (
    content_words,
    overlap_f1,
    persona_f1,
    persona_f1_normalized,
)

HISTORY = {"a": [("Do you like chess?", "I play chess and football")]}
# h = {like, chess, play, football}; "do", "you", "i" and "and" are stop words.


def test_words_are_lower_case_and_no_stop_words() -> None:
    assert content_words("The CAFÉ is a Café, isn't it? x 42") == {"café", "isn", "42"}


def test_plain_persona_f1_by_hand() -> None:
    # s = {chess, rocks}: p = 1/2, q = 1/4, F1 = 2 * (1/8) / (3/4) = 1/3.
    made = predictions({"a": [("", "Chess rocks")]}, histories=HISTORY)
    assert persona_f1(made).mean == pytest.approx(100 / 3)


def test_normalised_persona_f1_by_hand() -> None:
    # q = 1 / min(4, 2) = p, so F1 = p = 1/2.
    made = predictions({"a": [("", "Chess rocks")]}, histories=HISTORY)
    assert persona_f1_normalized(made).mean == pytest.approx(50.0)


def test_a_longer_answer_of_the_same_quality_gains_only_the_plain_value() -> None:
    history = content_words(" ".join(f"word{n}" for n in range(100)))
    short = content_words("word1 other1")
    long = content_words(" ".join(f"word{n} other{n}" for n in range(20)))
    assert overlap_f1(history, long, normalized=False) > 5 * overlap_f1(
        history, short, normalized=False
    )
    assert overlap_f1(history, long, normalized=True) == pytest.approx(50.0)
    assert overlap_f1(history, short, normalized=True) == pytest.approx(50.0)


def test_an_answer_longer_than_the_history_is_measured_as_the_plain_value() -> None:
    history, answer = content_words("chess"), content_words("chess rocks today")
    # p = 1/3, q = 1: F1 = 1/2.
    assert overlap_f1(history, answer, normalized=True) == pytest.approx(50.0)
    assert overlap_f1(history, answer, normalized=False) == pytest.approx(50.0)


@pytest.mark.parametrize("answer", ["", "the and of", "unrelated"])
def test_nothing_shared_is_nought(answer: str) -> None:
    made = predictions({"a": [("", answer)]}, histories=HISTORY)
    assert persona_f1(made).mean == 0.0
    assert persona_f1_normalized(made).mean == 0.0


def test_a_missing_history_or_generation_is_refused() -> None:
    with pytest.raises(MeasurementError, match="training history of every user"):
        persona_f1(predictions({"a": [("", "x")]}))
    with pytest.raises(MeasurementError, match="expected generated text"):
        persona_f1(predictions({"a": [("", None)]}, histories=HISTORY))
