"""Whose data one local adapter learns from: a user's, a community's, everybody's."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from milp_search.core.methods import METHODS
from milp_search.core.plan import Scope, TrialPlan
from milp_search.core.records import Interaction, PersonalizationTask
from milp_search.personalize.method import Run
from milp_search.personalize.run import train
from personalize.making import RANKS, SETTINGS, USERS, Recorder, item, plan, run_of, task

SCOPED = sorted({traits.trains or name for name, traits in METHODS.items() if traits.scoped})


def trained(method: str, scope: Scope, **changes: Any) -> tuple[Run, Recorder]:
    recorder = Recorder()
    run = run_of(plan(method, scope=scope, **changes), recorder)
    stacks = train(run).stacks
    assert tuple(stacks) == USERS
    recorder.trained = [stack[-1] for stack in stacks.values()]
    return run, recorder


@pytest.mark.parametrize("method", SCOPED)
def test_all_users_share_one_adapter_of_all_their_histories(method: str) -> None:
    run, recorder = trained(method, "all")
    local = [job for job in recorder.jobs if job.key.startswith("local:")]
    assert {job.key for job in local} == {"local:" + json.dumps(sorted(USERS))}
    assert all(len(job.examples) == sum(len(u.history) for u in run.task.targets) for job in local)
    assert len({id(adapter) for adapter in recorder.trained}) == 1


@pytest.mark.parametrize("method", SCOPED)
def test_a_community_shares_the_adapter_of_its_members_histories(method: str) -> None:
    run, recorder = trained(method, "community", communities=2)
    local = [job for job in recorder.jobs if job.key.startswith("local:")]
    groups = {tuple(json.loads(job.key.removeprefix("local:"))) for job in local}
    assert sorted(user for group in groups for user in group) == sorted(USERS)
    assert len(groups) == 2
    histories = {user.user: user.history for user in run.task.targets}
    for job in local:
        members = json.loads(job.key.removeprefix("local:"))
        assert len(job.examples) == sum(len(histories[user]) for user in members)
        below = {adapter.key for adapter in job.below}
        assert below <= {"global:" + json.dumps(members)}


def test_a_users_own_items_alone_stand_in_the_prompts_of_a_shared_adapter() -> None:
    _, recorder = trained("oppu", "all", retrieved_items=9)
    for job in recorder.jobs:
        for example in job.examples:
            owners = {user for user in USERS if user in example.prompt + example.response}
            assert len(owners) == 1


def test_a_shared_adapter_learns_in_the_order_of_time() -> None:
    late = tuple(item("anna", "past", n, 100.0 + n) for n in range(2))
    early = tuple(item("bert", "past", n, 50.0 + n) for n in range(2))
    found = learned([late, early])
    assert [example.split("r")[-1] for example in found] == [
        "tpast0.", "tpast1.", "annapast0.", "annapast1.",
    ]  # fmt: skip


def test_undated_histories_are_pooled_by_their_place() -> None:
    long = tuple(item("anna", "past", n) for n in range(4))
    short = tuple(item("bert", "past", n) for n in range(2))
    found = learned([long, short])
    assert [text[-6:] for text in found] == [
        "past0.", "past0.", "past1.", "past2.", "past1.", "past3.",
    ]  # fmt: skip


def learned(histories: list[tuple[Interaction, ...]]) -> list[str]:
    """Returns the responses that an adapter of two users learns, in order."""
    users = [
        replace(user, history=history)
        for user, history in zip(task().targets, histories, strict=False)
    ]
    recorder = Recorder()
    small = PersonalizationTask("two", "text", tuple(users))
    train(Run(small, plan("milp_tuning_only", scope="all"), recorder, SETTINGS, 0))
    (job,) = recorder.jobs
    return [example.response for example in job.examples]


def test_what_cannot_matter_is_taken_out_of_a_plan() -> None:
    full = TrialPlan("oppu", RANKS, communities=3, scope="community")
    assert full.canonical(METHODS["oppu"]).communities == 3
    assert replace(full, scope="user").canonical(METHODS["oppu"]).communities == 0
    everybody = replace(full, method="logo", scope="all").canonical(METHODS["logo"])
    assert (everybody.scope, everybody.communities) == ("all", 1)
    alone = replace(full, communities=1).canonical(METHODS["oppu"])
    assert (alone.scope, alone.communities) == ("all", 0)
    none = replace(full, adapter=replace(RANKS, ranks=(0, 0, 0)))
    assert none.canonical(METHODS["oppu"]).scope == "user"
    assert full.canonical(METHODS["base"]).scope == "user"
