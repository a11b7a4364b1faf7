from __future__ import annotations

from milp_search.adapters.prompt import answer_text, item_text, prompt_text


def test_a_past_exchange_is_question_and_answer_on_two_lines() -> None:
    assert item_text("how?", "so") == "Question: how?\nAnswer: so"


def test_a_bare_query_ends_where_the_answer_begins() -> None:
    assert prompt_text("how?") == "Question: how?\nAnswer:"


def test_retrieved_items_stand_before_the_query_in_the_order_given() -> None:
    text = prompt_text("how?", [("a", "1"), ("b", "2")])
    assert text == "Question: a\nAnswer: 1\n\nQuestion: b\nAnswer: 2\n\nQuestion: how?\nAnswer:"


def test_a_profile_stands_on_top() -> None:
    text = prompt_text("how?", [("a", "1")], "likes tea")
    assert text == "Profile: likes tea\n\nQuestion: a\nAnswer: 1\n\nQuestion: how?\nAnswer:"


def test_prompt_and_answer_together_read_as_a_past_exchange() -> None:
    assert prompt_text("how?") + answer_text("so") == item_text("how?", "so")
