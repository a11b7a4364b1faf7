from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milp_search.adapters.jobs import TrainJob
from milp_search.core.records import Interaction, PersonalizationTask, UserTask
from milp_search.personalize.global_chain import global_adapters
from milp_search.personalize.method import Run
from personalize.making import RANKS, SETTINGS, USERS, Recorder, plan, run_of, task


def chains(recorder: Recorder) -> dict[str, list[TrainJob]]:
    found: dict[str, list[TrainJob]] = defaultdict(list)
    for job in recorder.jobs:
        found[job.key].append(job)
    return found


def trained(time_splits: int = 2, communities: int = 2, steps: int = 5) -> Recorder:
    recorder = Recorder()
    wanted = plan("logo", time_splits=time_splits, communities=communities)
    run = replace(run_of(wanted, recorder), settings=replace(SETTINGS, global_steps=steps))
    global_adapters(run)
    return recorder


@given(time_splits=st.integers(1, 30), communities=st.integers(1, 6), steps=st.integers(0, 50))
def test_every_community_takes_equal_steps_whatever_t_and_c(
    time_splits: int, communities: int, steps: int
) -> None:
    for jobs in chains(trained(time_splits, communities, steps)).values():
        shares = [job.steps or 0 for job in jobs]
        assert sum(shares) == steps
        assert max(shares) - min(shares) <= 1
        assert all(job.epochs is None for job in jobs)


def test_each_period_starts_from_the_adapter_of_the_one_before() -> None:
    recorder = trained(time_splits=3)
    result = {
        id(job): adapter for job, adapter in zip(recorder.jobs, recorder.trained, strict=True)
    }
    for jobs in chains(recorder).values():
        assert len(jobs) == 3
        assert jobs[0].start is None
        assert jobs[1].start is result[id(jobs[0])]
        assert jobs[2].start is result[id(jobs[1])]


def test_the_final_adapter_of_the_chain_serves_the_members_and_nobody_else() -> None:
    recorder = Recorder()
    stacks = global_adapters(run_of(plan("logo"), recorder))
    last = {job.key: adapter for job, adapter in zip(recorder.jobs, recorder.trained, strict=True)}
    assert stacks.keys() == {"anna", "bert", "cleo", "dora"}
    for user, (adapter,) in stacks.items():
        assert user in json.loads(adapter.key.removeprefix("global:"))
        assert adapter is last[adapter.key]


def test_the_periods_of_a_community_are_its_members_histories_in_order_of_time() -> None:
    histories = {user.user: user.history for user in task().targets}
    for key, jobs in chains(trained(time_splits=3)).items():
        members = json.loads(key.removeprefix("global:"))
        pool = sorted((i.time or 0.0, i.response) for user in members for i in histories[user])
        seen = [{example.response[1:] for example in job.examples} for job in jobs]
        assert sorted(text for part in seen for text in part) == sorted(text for _, text in pool)
        times = {text: time for time, text in pool}
        for early, late in pairwise(seen):
            assert max(times[text] for text in early) <= min(times[text] for text in late)


def test_the_global_stage_retrieves_nothing() -> None:
    examples = [example for job in trained().jobs for example in job.examples]
    assert examples
    assert all(example.prompt.count("Answer:") == 1 for example in examples)


def test_only_training_histories_are_embedded() -> None:
    recorder = trained()
    texts = {
        text for user in task().targets for i in user.history for text in (i.query, i.response)
    }
    assert set(recorder.embedded) == texts


def test_a_community_is_named_by_its_members_alone() -> None:
    """Users "a" and "b" together are not the user "a,b"."""

    def keys(*users: str) -> set[str]:
        targets = tuple(UserTask(u, (Interaction(u, "q", "r", 0.0),), (), ()) for u in users)
        recorder = Recorder()
        wanted = plan("logo", communities=1)
        global_adapters(
            Run(PersonalizationTask("t", "text", targets), wanted, recorder, SETTINGS, 0)
        )
        return {job.key for job in recorder.jobs}

    assert keys("a", "b") == keys("b", "a")
    assert keys("a", "b") != keys("a,b")


@pytest.mark.parametrize("seed", [0, 5])
def test_the_order_within_a_period_is_random_and_differs_from_period_to_period(seed: int) -> None:
    recorder = Recorder()
    global_adapters(run_of(plan("logo"), recorder, seed))
    for jobs in chains(recorder).values():
        assert all(job.shuffle for job in jobs)
        assert len({job.seed for job in jobs}) == len(jobs)
        assert all(job.plan == RANKS and job.below == () for job in jobs)


def limited(**changes: Any) -> Recorder:
    recorder = Recorder()
    global_adapters(run_of(plan("logo", **changes), recorder))
    return recorder


def learnt_from(recorder: Recorder) -> set[str]:
    texts = " ".join(example.response for job in recorder.jobs for example in job.examples)
    return {user for user in USERS if f"r{user}past" in texts}


def test_a_limited_number_of_users_contributes_and_more_are_these_and_others() -> None:
    few, more = (learnt_from(limited(global_users=count, communities=1)) for count in (2, 3))
    assert (len(few), len(more)) == (2, 3)
    assert few < more


def test_a_community_without_contributors_has_no_global_adapter() -> None:
    recorder = Recorder()
    stacks = global_adapters(run_of(plan("logo", global_users=1, communities=4), recorder))
    assert sorted(map(len, stacks.values())) == [0, 0, 0, 1]


def test_a_chain_that_ends_early_has_trained_the_very_same_until_then() -> None:
    whole, early = limited(time_splits=4), limited(time_splits=4, global_periods=2)
    for key, jobs in chains(early).items():
        # The adapters that later ones start from hold no tensors here; the jobs say it all.
        assert [replace(job, start=None) for job in jobs] == [
            replace(job, start=None) for job in chains(whole)[key][:2]
        ]


def test_without_any_period_there_is_no_global_adapter() -> None:
    recorder = Recorder()
    stacks = global_adapters(run_of(plan("logo", global_periods=0), recorder))
    assert recorder.jobs == []
    assert set(stacks.values()) == {()}
