from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from metrics.making import predictions
from milp_search.core.errors import MeasurementError
from milp_search.core.records import Predictions
from milp_search.metrics.diversity import diversity, normalised_entropy

LABELS = ("red", "green", "blue", "white")


def labelled(users: Mapping[str, Sequence[str]]) -> Predictions:
    pairs = {user: [("red", answer) for answer in answers] for user, answers in users.items()}
    return predictions(pairs, "classification", LABELS)


def test_entropy_by_hand() -> None:
    # 1/2, 1/4, 1/4 has entropy 1.5 bits; of 4 classes at most 2 bits.
    assert normalised_entropy(["a", "a", "b", "c"], 4) == pytest.approx(1.5 / 2)
    assert normalised_entropy([1, 2, 3], 3) == pytest.approx(1.0)
    assert normalised_entropy([1, 1, 1], 3) == 0.0


@pytest.mark.parametrize(("found", "count"), [([], 3), ([None], 3), ([0, 0], 1)])
def test_without_classes_nothing_is_diverse(found: list[int | None], count: int) -> None:
    assert normalised_entropy(found, count) == 0.0


def test_labels_count_for_each_user_and_unknown_ones_not_at_all() -> None:
    found = diversity(labelled({"a": ["red", " Green\n", "red", "green"], "b": ["red", "mauve"]}))
    # a: two of four labels alike, log 2 / log 4; b: one known label.
    assert found.per_user == pytest.approx((0.5, 0.0))
    assert found.mean == pytest.approx(0.25)


def test_a_user_without_a_known_label_has_diversity_nought() -> None:
    assert diversity(labelled({"a": ["mauve", "pink"]})).mean == 0.0


def test_ratings_are_rounded_to_whole_ones_and_what_is_no_rating_is_left_out() -> None:
    answers = ["1", "1.4", "2.5", "3", "none", "9"]
    made = predictions({"a": [("1", answer) for answer in answers]}, "rating")
    # 1 and 3 twice each, of the five ratings 1 to 5.
    assert diversity(made).mean == pytest.approx(math.log(2) / math.log(5))


def test_a_range_that_begins_between_two_whole_ratings_counts_the_whole_ones() -> None:
    made = predictions({"a": [("1", "0.5"), ("1", "1"), ("1", "3.5"), ("1", "3")]}, "rating")
    made = replace(made, task=replace(made.task, rating_range=(0.5, 3.5)))
    # 0.5 counts as 1 and 3.5 as 3: two of the three ratings 1, 2, 3.
    assert diversity(made).mean == pytest.approx(math.log(2) / math.log(3))


def test_texts_count_by_their_topics() -> None:
    made = predictions({"a": [("x", "one"), ("x", "two"), ("x", "")]})
    topics = (1, 0, None)
    items = [replace(item, topic=topic) for item, topic in zip(made.items, topics, strict=True)]
    assert diversity(replace(made, items=tuple(items), topics=4)).mean == pytest.approx(0.5)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(MeasurementError, match="expected the topics"):
        diversity(replace(predictions({"a": [("x", "y")]}), topics=0))
    with pytest.raises(MeasurementError, match="expected generated text"):
        diversity(predictions({"a": [("x", None)]}))
