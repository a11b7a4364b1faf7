from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milp_search.core.records import Interaction
from milp_search.personalize.retrieval import (
    Retriever,
    held_out_examples,
    injection_examples,
    training_examples,
    words,
)


def history(*texts: str) -> list[Interaction]:
    return [Interaction("u", text, "x") for text in texts]


def bm25(query: str, texts: list[str]) -> list[float]:
    """Returns Lucene's BM25 score of each text, k1 = 1.5 and b = .75, word by word."""
    bags = [words(text) for text in texts]
    mean = sum(map(len, bags)) / len(bags)
    scores = []
    for bag in bags:
        score = 0.0
        for word in set(words(query)):
            n, f = sum(word in other for other in bags), bag.count(word)
            idf = math.log(1 + (len(bags) - n + 0.5) / (n + 0.5))
            score += idf * f / (f + 1.5 * (0.25 + 0.75 * len(bag) / mean))
        scores.append(score)
    return scores


def test_words_are_lower_case_and_without_punctuation() -> None:
    assert words("Tea, or COFFEE_2? été!") == ["tea", "or", "coffee_2", "été"]


def test_the_best_item_of_a_hand_example() -> None:
    """ "tea" is in one item of three, "good" in two: the rare word decides."""
    found = Retriever(history("good bread", "tea time", "good soup")).retrieve("good tea", 1)
    assert [item.query for item in found] == ["tea time"]


LINES = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6).map(" ".join)


@given(texts=st.lists(LINES, min_size=1, max_size=8), query=LINES, k=st.integers(0, 4))
def test_retrieval_is_the_top_of_a_slow_bm25(texts: list[str], query: str, k: int) -> None:
    items = history(*texts)
    scores = [round(s, 5) for s in bm25(query, [f"{text} x" for text in texts])]
    order = sorted(range(len(texts)), key=lambda place: (scores[place], place), reverse=True)
    best = sorted(place for place in order[:k] if scores[place] > 0)
    found = Retriever(items).retrieve(query, k)
    # Scores that differ by rounding alone may change places, so scores are compared, not items.
    places = [next(p for p, one in enumerate(items) if one is item) for item in found]
    assert places == sorted(places)
    assert sorted(scores[p] for p in places) == pytest.approx(
        sorted(scores[p] for p in best), abs=1e-4
    )


def test_items_come_in_chronological_order_whatever_their_scores() -> None:
    found = Retriever(history("tea", "tea tea milk", "bread", "tea milk")).retrieve("tea milk", 2)
    assert [item.query for item in found] == ["tea tea milk", "tea milk"]


def test_only_items_before_a_place_are_found() -> None:
    retriever = Retriever(history("tea a", "bread", "tea b", "tea c"))
    assert [i.query for i in retriever.retrieve("tea", 9, before=3)] == ["tea a", "tea b"]
    assert retriever.retrieve("tea", 9, before=0) == []


def test_without_a_shared_word_nothing_is_found() -> None:
    assert Retriever(history("tea", "bread")).retrieve("wine", 2) == []


def test_items_without_a_shared_word_do_not_fill_up() -> None:
    found = Retriever(history("tea", "bread", "soup")).retrieve("tea", 3)
    assert [item.query for item in found] == ["tea"]


def test_k_zero_finds_nothing() -> None:
    assert Retriever(history("tea")).retrieve("tea", 0) == []


def test_of_equal_items_the_later_one_wins() -> None:
    items = history("tea", "tea", "tea")
    assert Retriever(items).retrieve("tea", 1)[0] is items[2]


def test_a_word_asked_twice_counts_once() -> None:
    retriever = Retriever(history("tea time", "soup pot bread"))
    assert retriever.retrieve("soup tea tea", 1) == retriever.retrieve("soup tea", 1)


@pytest.mark.parametrize("texts", [(), ("?!", "...")])
def test_a_history_without_words_finds_nothing(texts: tuple[str, ...]) -> None:
    items = [Interaction("u", text, "-") for text in texts]
    assert Retriever(items).retrieve("tea", 2) == []


def test_the_response_of_an_item_is_searched_too() -> None:
    items = [Interaction("u", "q", "likes tea"), Interaction("u", "q", "likes soup")]
    assert Retriever(items).retrieve("tea", 1) == [items[0]]


def test_a_training_example_holds_earlier_items_and_never_itself() -> None:
    examples = training_examples(history("tea a", "tea b", "tea c"), 1)
    assert [example.prompt for example in examples] == [
        "Question: tea a\nAnswer:",
        "Question: tea a\nAnswer: x\n\nQuestion: tea b\nAnswer:",
        "Question: tea b\nAnswer: x\n\nQuestion: tea c\nAnswer:",
    ]
    assert {example.response for example in examples} == {" x"}


@given(k=st.integers(0, 3), size=st.integers(0, 6))
def test_no_training_example_holds_a_later_item(k: int, size: int) -> None:
    items = [Interaction("u", f"tea mark{n}x", f"r{n}x") for n in range(size)]
    for place, example in enumerate(training_examples(items, k)):
        assert not any(f"mark{later}x" in example.prompt for later in range(place + 1, size))
        assert not any(f"r{later}x" in example.prompt for later in range(place, size))
        assert example.prompt.count("Answer: ") == min(k, place)


def test_held_out_queries_see_the_history_and_not_each_other() -> None:
    asked = [Interaction("u", "tea one", "1"), Interaction("u", "tea two", "2")]
    first, second = held_out_examples(history("tea past"), asked, 5)
    assert first.prompt == "Question: tea past\nAnswer: x\n\nQuestion: tea one\nAnswer:"
    assert second.prompt == "Question: tea past\nAnswer: x\n\nQuestion: tea two\nAnswer:"


def test_memory_injection_learns_whole_exchanges_without_a_prompt() -> None:
    (example,) = injection_examples(history("tea"))
    assert (example.prompt, example.response) == ("", "Question: tea\nAnswer: x")
