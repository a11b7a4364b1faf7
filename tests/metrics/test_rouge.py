from __future__ import annotations

import time

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from metrics.making import predictions
from milp_search.core.errors import MeasurementError
from milp_search.metrics.rouge import rouge_1, rouge_l

WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "mat"]), max_size=7)


def test_the_cat_by_hand() -> None:
    made = predictions({"a": [("The cat sat on the mat.", "the mat, the cat")]})
    # 4 of 4 words shared, 4 of 6 recalled: 2 * 1 * (2/3) / (5/3); longest in order: "the cat"
    # or "the mat", 2 of 4 and 2 of 6.
    assert rouge_1(made).mean == pytest.approx(0.8)
    assert rouge_l(made).mean == pytest.approx(0.4)


def test_equal_texts_give_one_and_empty_ones_nought() -> None:
    made = predictions({"a": [("running dogs", "Running dogs!")], "b": [("running dogs", "")]})
    assert rouge_1(made).per_user == (1.0, 0.0)
    assert rouge_l(made).per_user == (1.0, 0.0)


def test_words_are_not_stemmed() -> None:
    assert rouge_1(predictions({"a": [("running", "runs")]})).mean == 0.0


@hypothesis.settings(deadline=None)
@given(WORDS, WORDS)
def test_rouge_l_agrees_with_the_slow_longest_common_subsequence(
    truth: list[str], answer: list[str]
) -> None:
    def longest(a: list[str], b: list[str]) -> int:
        if not a or not b:
            return 0
        if a[0] == b[0]:
            return 1 + longest(a[1:], b[1:])
        return max(longest(a[1:], b), longest(a, b[1:]))

    shared = longest(truth, answer)
    expected = 2 * shared / (len(truth) + len(answer)) if shared else 0.0
    made = predictions({"a": [(" ".join(truth), " ".join(answer))]})
    assert rouge_l(made).mean == pytest.approx(expected)


@pytest.mark.parametrize(
    ("truth", "answer"),
    [
        ("The cats' mat, 2 of them!", "two cats on the MAT"),
        ("naïve café", "naive cafe"),
        ("one\ntwo three", "three two one one"),
        ("running", "run"),
        ("", "anything"),
    ],
)
def test_values_are_those_of_the_rouge_score_package_without_stemmer(
    truth: str, answer: str
) -> None:
    scores = RougeScorer(["rouge1", "rougeL"], use_stemmer=False).score(truth, answer)
    made = predictions({"a": [(truth, answer)]})
    assert rouge_1(made).mean == scores["rouge1"].fmeasure
    assert rouge_l(made).mean == scores["rougeL"].fmeasure


def test_a_missing_generation_is_refused() -> None:
    with pytest.raises(MeasurementError, match="expected generated text"):
        rouge_l(predictions({"a": [("x", None)]}))


def test_200_predictions_take_well_under_a_second() -> None:
    words = [f"w{n % 17}" for n in range(30)]
    made = predictions({"a": [(" ".join(words), " ".join(words[::-1]))] * 200})
    rouge_l(made)
    start = time.process_time()
    rouge_l(made)
    # About 0.05 s on a free core; the bound leaves room for a busy machine.
    assert time.process_time() - start < 0.5
