"""Nobody's texts reach another user, and held-out texts reach no training.

Every exchange of the task carries canaries that name its user, its part of the split and its
place, such as `annapast3`. The suite runs over all rows of methods, those added later included: a
method that shares what users wrote, by its definition, says so in `SHARING`.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.core.methods import METHODS as ROWS
from milp_search.core.records import Interaction, PersonalizationTask, Prediction
from milp_search.personalize.run import METHODS, Split, answer, train
from personalize.echo import BASE, Echo, canaries, owners, whole
from personalize.making import SETTINGS, USERS, plan, run_of, task

# By their definition these answer a user by what others wrote in their training histories too;
# every other method answers a user by that user's history alone.
SHARING = {
    "logo": "the community's global adapter (LoGo, Eq. 4)",
    "logo_global": "the community's global adapter (LoGo, Eq. 4)",
    "milp_logo": "the community's global adapter (LoGo, Eq. 4)",
    "p2p": "one hypernetwork for all (Tan et al. 2025b)",
    "uelp": "one encoder for all (Ning et al. 2024)",
    "per_pcs": "pieces of the sharers' adapters (Tan et al. 2024a)",
    "hydra": "a reranker and a chooser that all users share (Zhuang et al. 2024)",
}
# Stages whose adapters learn from the texts of those alone whom their keys name: a user, or
# users as JSON. Any other stage has to be of a method that shares.
OWNED = ("local", "global")

PLANS: dict[str, dict[str, Any]] = {
    "default": {},
    "items": {"retrieved_items": 9, "profile": True},
    "random": {"retrieved_items": 9, "retrieval": "random"},
    "community": {"scope": "community", "communities": 2, "profile": True},
    "everybody": {"scope": "all", "retrieved_items": 9},
}
CASES = [(row, name) for row in ROWS for name in PLANS if ROWS[row].scoped or name in [*PLANS][:3]]
every_plan = pytest.mark.parametrize(("row", "name"), CASES)
every_split = pytest.mark.parametrize("split", ["validation", "test"])


@cache
def recorded(row: str, name: str, split: Split | None = None) -> Echo:
    """Returns what training a row was given and, with a split, answering and measuring it too."""
    recorder = Echo()
    run = run_of(plan(row, **{**ROWS[row].defaults, **PLANS[name]}), recorder)
    trained = train(run)
    if split is not None:
        answer(run, trained, split, generate=True, topics=True, retention=True)
    return recorder


# --- what a trainer is given, over all rows ---------------------------------------------------


@every_split
@every_plan
def test_no_text_given_to_the_model_holds_words_of_two_users(
    row: str, name: str, split: Split
) -> None:
    texts = [*recorded(row, name, split).read()]
    assert {user for text in texts for user in owners(text)} >= set(USERS)
    assert [text for text in texts if len(owners(text)) > 1] == []


@every_plan
def test_an_adapter_learns_from_the_histories_of_those_alone_whom_its_key_names(
    row: str, name: str
) -> None:
    for job in recorded(row, name).jobs:
        stage, _, named = job.key.partition(":")
        if stage not in OWNED:
            assert (ROWS[row].trains or row) in SHARING, job.key
            continue
        users = set(json.loads(named)) if named.startswith("[") else {named}
        found = set().union(*(canaries(whole(one)) for one in job.examples))
        assert {user for user, _, _ in found} == users
        for adapter in job.below:
            below = adapter.key.partition(":")[2]
            assert users <= set(json.loads(below))


@every_plan
def test_training_is_given_nothing_that_is_held_out(row: str, name: str) -> None:
    for text in recorded(row, name).read():
        assert {part for _, part, _ in canaries(text)} <= {"past"}


@every_split
@every_plan
def test_answering_is_given_no_query_of_the_other_split_and_no_true_response_in_a_prompt(
    row: str, name: str, split: Split
) -> None:
    asked = [one for job in recorded(row, name, split).asked for one in job.examples]
    shown = {part for one in asked for _, part, _ in canaries(one.prompt)}
    assert shown <= {"past", "valid" if split == "validation" else "test"}
    for one in asked:
        # The true response of anything held out carries its canary behind an r.
        assert not re.search(r"r(anna|bert|cleo|dora)(valid|test)\d", one.prompt)


@every_split
def test_the_canaries_would_be_seen(split: Split) -> None:
    """The checks above rest on this: queries, histories and echoes carry their canaries."""
    recorder = recorded("oppu", "items", split)
    profiles = [job.examples[0].prompt for job in recorder.asked if not job.adapters][:4]
    assert [len(canaries(prompt)) for prompt in profiles] == [4, 5, 6, 7]
    part = "valid" if split == "validation" else "test"
    last = next(job.examples[0].prompt for job in recorder.asked if job.adapters)
    assert ("anna", part, "0") in canaries(last)
    assert last.startswith("Profile: annapast")


# --- what decides an answer, over all methods, with a model -----------------------------------


def rewritten(kept: str, **parts: bool) -> PersonalizationTask:
    """Returns the task with other words in these parts of the users other than one."""

    def other(items: tuple[Interaction, ...]) -> tuple[Interaction, ...]:
        return tuple(
            replace(one, query=f"why {one.query[::-1]}", response=f"no, {one.response[::-1]}")
            for one in items
        )

    def changed(user: Any) -> Any:
        if user.user == kept:
            return user
        return replace(user, **{part: other(getattr(user, part)) for part in parts})

    return replace(task(), targets=tuple(changed(user) for user in task().targets))


def answers(method: str, given: PersonalizationTask, split: Split) -> list[Prediction]:
    run = run_of(plan(method, profile=True), PeftTrainer(BASE, SETTINGS))
    run = replace(run, task=given)
    return [*answer(run, train(run), split, generate=True).items]


@cache
def usual(method: str, split: Split) -> list[Prediction]:
    return answers(method, task(), split)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in SHARING])
def test_a_users_answers_do_not_depend_on_what_others_wrote(method: str) -> None:
    changed = rewritten("cleo", history=True, validation=True, test=True)
    found = [one for one in answers(method, changed, "validation") if one.user == "cleo"]
    expected = [one for one in usual(method, "validation") if one.user == "cleo"]
    assert found == expected, "if that is how the method is defined, say so in SHARING"
    assert len(found) == 2


@pytest.mark.parametrize("method", METHODS)
def test_answers_do_not_depend_on_the_other_split(method: str) -> None:
    changed = rewritten("nobody", test=True)
    assert answers(method, changed, "validation") == usual(method, "validation")


@pytest.mark.parametrize("method", SHARING)
def test_the_methods_that_share_do(method: str) -> None:
    changed = rewritten("cleo", history=True)
    found = [one.loss for one in answers(method, changed, "validation") if one.user == "cleo"]
    expected = [one.loss for one in usual(method, "validation") if one.user == "cleo"]
    assert found != expected
