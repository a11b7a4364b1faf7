"""PER-PCS: who shares, with whom, and what a user's adapter is made of."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from adapters.making import llama
from milp_search.adapters.jobs import Adapter, AdapterTrainer
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.core.plan import AdapterPlan
from milp_search.core.records import UserHistory, UserTask
from milp_search.dispatch.rendezvous import train_together
from milp_search.personalize.method import Run, Stacks
from milp_search.personalize.per_pcs import per_pcs, sharers
from personalize.making import RANKS, SETTINGS, USERS, Recorder, item, plan, run_of, task, user_task

BASE = llama()
OTHER = AdapterPlan((0, 1, 0), 2.0, "q_v")


def real_run(**changes: object) -> tuple[Run, Recorder]:
    recorder = Recorder(PeftTrainer(BASE, SETTINGS))
    return run_of(plan("per_pcs", **changes), recorder), recorder  # type: ignore[arg-type]


def other(number: int, size: int) -> UserHistory:
    name = f"other{number:02}"
    return UserHistory(name, tuple(item(name, "past", n) for n in range(size)))


def with_others(run: Run, *sizes: int) -> Run:
    others = tuple(other(number, size) for number, size in enumerate(sizes))
    return replace(run, task=replace(run.task, others=others))


def owners(adapter: Adapter, recorder: Recorder) -> set[str]:
    """Returns whose trained pieces an adapter holds: their rows of A are among its rows."""
    held = {(path, tuple(row)) for path, (a, _) in adapter.tensors.items() for row in a.tolist()}
    return {
        trained.key.removeprefix("local:")
        for trained in recorder.trained
        for path, (a, _) in trained.tensors.items()
        for row in a.tolist()
        if (path, tuple(row)) in held
    }


# --- who shares -----------------------------------------------------------------------------


def test_with_few_others_the_targets_share_among_themselves_and_never_with_themselves() -> None:
    run, recorder = real_run()
    stacks = per_pcs(run)
    assert [job.key for job in recorder.jobs] == [f"local:{user}" for user in USERS]
    for user, (adapter,) in stacks.items():
        # Of four users the three others are what a map can take.
        assert owners(adapter, recorder) == {*USERS} - {user}


def test_with_enough_others_they_share_and_targets_train_nothing() -> None:
    run, recorder = real_run()
    run = with_others(run, *[2] * 8)
    stacks = per_pcs(run)
    assert [job.key for job in recorder.jobs] == [f"local:other{n:02}" for n in range(8)]
    for adapter in (adapter for stack in stacks.values() for adapter in stack):
        assert len(owners(adapter, recorder)) >= 3
    texts = "".join(e.prompt + e.response for job in recorder.jobs for e in job.examples)
    assert not any(user in texts for user in USERS)


def test_others_without_history_do_not_count() -> None:
    run = with_others(run_of(plan("per_pcs"), Recorder()), *[2] * 7, 0)
    assert [user.user for user in sharers(run)] == [*USERS]
    run = with_others(run, *[2] * 8, 0)
    assert len(sharers(run)) == 8


def test_of_many_one_shares_per_group_the_most_active() -> None:
    """There are 8 ways of writing, five users each; of the fifth the history is the longest."""
    written = [("q" * place + letter * 3, size) for place, letter in enumerate("abcdefgh")
               for size in (1, 1, 1, 1, 2)]  # fmt: skip
    others = tuple(
        UserHistory(f"u{n}", (replace(item("u", "past", 0), query=text, response=text),) * size)
        for n, (text, size) in enumerate(written)
    )
    run = run_of(plan("per_pcs"), Recorder())
    chosen = sharers(replace(run, task=replace(run.task, others=others)))
    # More groups than ways of writing were asked for: there are as many as there are ways.
    assert {user.user for user in chosen} == {f"u{n}" for n in range(4, 40, 5)}


def test_the_choice_of_sharers_is_a_function_of_the_seed() -> None:
    run = with_others(run_of(plan("per_pcs"), Recorder()), *[1 + n % 5 for n in range(40)])
    assert sharers(run) == sharers(replace(run, trainer=Recorder()))
    assert len(sharers(run)) <= 32


# --- what is composed -----------------------------------------------------------------------


def targets(run: Run, *users: UserTask) -> Run:
    return replace(run, task=replace(task(), targets=users, others=()))


def test_who_is_alone_or_new_is_answered_by_the_base_model() -> None:
    run, _ = real_run()
    new = UserTask("newt", (), (item("newt", "valid", 0),), ())
    assert per_pcs(targets(run, user_task("anna", 0.0))) == {"anna": ()}
    stacks = per_pcs(targets(run, user_task("anna", 0.0), user_task("bert", 0.0, 1), new))
    assert stacks["newt"] == ()
    assert [stack[0].plan.ranks for stack in stacks.values() if stack] == [(1, 0, 2)] * 2
    assert per_pcs(targets(run)) == {}


def test_without_rank_nothing_is_trained() -> None:
    run, recorder = real_run(adapter=AdapterPlan((0, 0, 0)))
    assert set(per_pcs(run).values()) == {()}
    assert recorder.jobs == []


@pytest.mark.parametrize("k", [0, 2])
def test_k_earlier_items_stand_in_the_prompts_of_the_sharers(k: int) -> None:
    run, recorder = real_run(retrieved_items=k)
    per_pcs(run)
    counts = [e.prompt.count("Answer: ") for e in recorder.jobs[3].examples]
    assert counts == [min(k, place) for place in range(7)]


def same_stacks(one: Stacks, other: Stacks) -> bool:
    pairs = [
        (mine, other[user][0].tensors[path])
        for user, (adapter,) in one.items()
        for path, mine in adapter.tensors.items()
    ]
    return all(all(map(torch.equal, mine, theirs)) for mine, theirs in pairs)


def test_held_out_texts_change_nothing() -> None:
    run, _ = real_run()
    blind = tuple(replace(user, validation=(), test=()) for user in run.task.targets)
    assert same_stacks(per_pcs(run), per_pcs(replace(run, task=replace(run.task, targets=blind))))


def test_plans_that_share_a_trainer_do_not_meddle_with_each_other() -> None:
    """Both work inside one base; each has the adapters that it has alone."""
    trainer = PeftTrainer(BASE, SETTINGS)
    runs = [run_of(plan("per_pcs", adapter), trainer) for adapter in (RANKS, OTHER)]

    def alone(run: Run, seat: AdapterTrainer) -> Stacks:
        return per_pcs(replace(run, trainer=seat))

    together = train_together(trainer, [partial(alone, run) for run in runs])
    for run, found in zip(runs, together, strict=True):
        assert not isinstance(found, Exception)
        assert same_stacks(found, per_pcs(run))


def test_a_users_history_decides_what_is_composed_for_them() -> None:
    run = with_others(real_run()[0], *[2] * 8)
    anna, *others = run.task.targets
    changed = replace(anna, history=tuple(replace(i, query="zz 11") for i in anna.history))
    other = replace(run, task=replace(run.task, targets=(changed, *others)))
    one, two = per_pcs(run), per_pcs(other)
    assert not same_stacks({"anna": one["anna"]}, two)
    assert same_stacks({user: one[user] for user in USERS[1:]}, two)
