from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from milp_search.core.records import PersonalizationTask, UserHistory
from milp_search.core.settings import TrainingSettings
from milp_search.personalize.base_stage import base_examples, base_stage_key
from personalize.making import item, task


def test_every_text_of_the_others_comes_as_an_answer_and_as_plain_text() -> None:
    examples = base_examples(task())
    plain = [e.response for e in examples if not e.prompt]
    answers = [e.response for e in examples if e.prompt]
    history = task().others[0].interactions
    assert answers == [f" {one.response}" for one in history]
    assert plain == [f"Question: {one.query}\nAnswer: {one.response}" for one in history]


def test_queries_come_with_no_one_and_two_retrieved_items_in_turn() -> None:
    other = UserHistory("zeno", tuple(item("zeno", "past", n) for n in range(7)))
    prompts = [e.prompt for e in base_examples(replace(task(), others=(other,))) if e.prompt]
    assert [prompt.count("Answer: ") for prompt in prompts] == [0, 1, 2, 0, 1, 2, 0]


def test_no_target_teaches_the_base() -> None:
    texts = "".join(e.prompt + e.response for e in base_examples(task()))
    assert "zenopast3" in texts
    assert not any(user.user in texts for user in task().targets)


def test_without_others_there_is_nothing_to_learn() -> None:
    assert base_examples(PersonalizationTask("t", "text", ())) == ()


SETTINGS = TrainingSettings(base_training="full")
KEY = base_stage_key("f00d", task(), SETTINGS, 0)


def test_the_key_is_sixteen_hex_digits() -> None:
    assert len(KEY) == 16
    assert int(KEY, 16) >= 0


@pytest.mark.parametrize(
    "changes",
    [
        {"base_epochs": 2},
        {"base_training": "lora"},
        {"base_learning_rate": 1e-3},
        {"batch_size": 4},
        {"warmup": 0.2},
        {"weight_decay": 0.1},
        {"max_length": 64},
    ],
    ids=str,
)
def test_what_decides_the_stage_changes_its_key(changes: dict[str, Any]) -> None:
    assert base_stage_key("f00d", task(), replace(SETTINGS, **changes), 0) != KEY


@pytest.mark.parametrize(
    "changes", [{"learning_rate": 1.0}, {"global_steps": 1}, {"max_new_tokens": 1}], ids=str
)
def test_settings_of_later_stages_leave_the_key_alone(changes: dict[str, Any]) -> None:
    assert base_stage_key("f00d", task(), replace(SETTINGS, **changes), 0) == KEY


def test_base_seed_and_texts_of_the_others_change_the_key_and_targets_do_not() -> None:
    fewer = replace(task(), others=(replace(task().others[0], interactions=()),))
    assert base_stage_key("beef", task(), SETTINGS, 0) != KEY
    assert base_stage_key("f00d", task(), SETTINGS, 1) != KEY
    assert base_stage_key("f00d", fewer, SETTINGS, 0) != KEY
    assert base_stage_key("f00d", replace(task(), targets=()), SETTINGS, 0) == KEY


def test_how_the_base_reads_texts_changes_the_key() -> None:
    keys = {base_stage_key("f00d", task(), SETTINGS, 0, read) for read in (["a"], ["b"], ())}
    assert len(keys) == 3
    assert KEY in keys
