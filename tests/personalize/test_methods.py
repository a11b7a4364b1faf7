"""The conformance suite of all methods, with a trainer that only records and with a real one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from adapters.making import llama
from milp_search.adapters.jobs import Adapter, TrainJob
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.core.errors import SpecError
from milp_search.core.methods import METHODS as TRAITS
from milp_search.core.plan import AdapterPlan
from milp_search.personalize.method import Stacks
from milp_search.personalize.run import METHODS, answer, train
from personalize.making import RANKS, SETTINGS, USERS, Recorder, plan, run_of, task

BASE = llama()
NONE = AdapterPlan((0, 0, 0))
TRAINERS: dict[str, Callable[[], Recorder]] = {
    "recorded": Recorder,
    "real": lambda: Recorder(PeftTrainer(BASE, SETTINGS)),
}
every_method = pytest.mark.parametrize("method", METHODS)
every_trainer = pytest.mark.parametrize("make", TRAINERS.values(), ids=TRAINERS.keys())


def made(method: str, make: Callable[[], Recorder] = Recorder) -> Recorder:
    """Returns a trainer that the method can be tried with; some work inside a real base model."""
    return TRAINERS["real"]() if TRAITS[method].open_base else make()


def marks(text: str) -> set[str]:
    """Returns the canaries in a text, such as `annapast3`."""
    return set(re.findall(r"(?:anna|bert|cleo|dora|zeno)(?:past|valid|test)\d", text))


def read(job: TrainJob) -> set[str]:
    return {mark for one in job.examples for mark in marks(one.prompt + one.response)}


def past(*users: str) -> set[str]:
    return {
        mark
        for user in task().targets
        if user.user in users
        for item in user.history
        for mark in marks(item.query)
    }


def trained(method: str, make: Callable[[], Recorder], **changes: Any) -> tuple[Stacks, Recorder]:
    recorder = made(method, make)
    return train(run_of(plan(method, **changes), recorder)).stacks, recorder


def tensors(stacks: Stacks) -> dict[str, list[list[float]]]:
    def numbers(adapter: Adapter) -> list[float]:
        return [float(m.sum()) for pair in adapter.tensors.values() for m in pair]

    return {user: [numbers(adapter) for adapter in stack] for user, stack in stacks.items()}


def test_the_table_of_methods_is_the_one_the_search_knows() -> None:
    assert METHODS.keys() == {traits.trains or name for name, traits in TRAITS.items()}


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SpecError, match=r"unknown method 'logic'(.|\n)*milp_logo"):
        train(run_of(replace(plan("logo"), method="logic"), Recorder()))


# --- what every method keeps to -------------------------------------------------------------


@every_trainer
@every_method
def test_every_target_has_a_stack_of_the_plans_adapters(
    method: str, make: Callable[[], Recorder]
) -> None:
    stacks, _ = trained(method, make)
    traits = TRAITS[method]
    assert tuple(stacks) == USERS
    for user, stack in stacks.items():
        assert len(stack) == traits.adapter + traits.global_adapter - (method == "logo_global")
        ranks = tuple(traits.pieces * rank for rank in RANKS.ranks)
        assert all(adapter.plan == replace(RANKS, ranks=ranks) for adapter in stack)
        if method != "logo_global":
            assert all(adapter.key == f"local:{user}" for adapter in stack[-1:])


@every_trainer
@every_method
def test_a_users_jobs_hold_that_users_history_whole_and_nobody_elses(
    method: str, make: Callable[[], Recorder]
) -> None:
    _, recorder = trained(method, make)
    for job in recorder.jobs:
        stage, _, owner = job.key.partition(":")
        if stage == "local":
            assert read(job) == past(owner)


@every_trainer
@every_method
def test_a_user_learns_on_top_of_their_own_community_and_from_their_own_start(
    method: str, make: Callable[[], Recorder]
) -> None:
    stacks, recorder = trained(method, make)
    for job in recorder.jobs:
        if job.key.startswith("local:"):
            owner = job.key.removeprefix("local:")
            assert job.below == stacks[owner][:-1]
            assert job.start is None or job.start.key == job.key
    for user, stack in stacks.items():
        for adapter in stack[:-1]:
            assert user in json.loads(adapter.key.removeprefix("global:"))


@every_trainer
@every_method
def test_a_communitys_jobs_hold_its_members_histories_and_nobody_elses(
    method: str, make: Callable[[], Recorder]
) -> None:
    _, recorder = trained(method, make)
    jobs = [job for job in recorder.jobs if job.key.startswith("global:")]
    assert bool(jobs) == TRAITS[method].global_adapter
    for key in {job.key for job in jobs}:
        seen = set().union(*(read(job) for job in jobs if job.key == key))
        assert seen == past(*json.loads(key.removeprefix("global:")))


@every_trainer
@every_method
def test_held_out_and_other_users_texts_reach_neither_training_nor_embedding(
    method: str, make: Callable[[], Recorder]
) -> None:
    _, recorder = trained(method, make)
    seen = {mark for job in recorder.jobs for mark in read(job)}
    seen |= {mark for text in recorder.embedded for mark in marks(text)}
    # HYDRA's shared parts learn from whoever is no target, too.
    allowed = past(*USERS) | {f"zenopast{n}" for n in range(4 * (method == "hydra"))}
    assert seen <= allowed


# HYDRA asks for several answers to each query, and UeLP answers inside the base, past the
# trainer: test_hydra.py and test_p2p_and_uelp.py look into their prompts.
@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("uelp", "hydra")])
def test_a_query_is_answered_from_its_users_history_alone(method: str) -> None:
    for split in ("validation", "test"):
        recorder = made(method)
        run = run_of(replace(plan(method), retrieved_items=9), recorder)
        answer(run, train(run), split, generate=True)
        for user, job in zip(task().targets, recorder.asked, strict=True):
            asked = user.validation if split == "validation" else user.test
            for item, example in zip(asked, job.examples, strict=True):
                (own,) = marks(item.query)
                assert own in marks(example.prompt)
                shown = marks(example.prompt) - {own}
                # What MaLP has forgotten is not shown.
                assert shown <= past(user.user) if method == "malp" else shown == past(user.user)
                assert f"r{own}" not in example.prompt
                assert example.response == f" {item.response}"


@every_trainer
@every_method
def test_a_seed_decides_the_result_whatever_the_trainer_did_before(
    method: str, make: Callable[[], Recorder]
) -> None:
    recorder = made(method, make)
    run = run_of(plan(method), recorder, seed=3)
    first = tensors(train(run).stacks)
    for other in ("milp_logo", "oppu"):
        train(run_of(plan(other, AdapterPlan((2, 1, 0))), recorder, seed=8))
    assert tensors(train(run).stacks) == first
    assert tensors(train(replace(run, trainer=made(method, make))).stacks) == first


@pytest.mark.parametrize("method", [name for name in METHODS if TRAITS[name].adapter])
def test_another_seed_gives_other_adapters(method: str) -> None:
    one, other = (
        tensors(train(run_of(plan(method), TRAINERS["real"](), seed=seed)).stacks)
        for seed in (0, 1)
    )
    assert all(one[user] != other[user] for user in USERS)


@pytest.mark.parametrize(
    "method", [name for name in METHODS if name not in ("tplp", "uelp", "hydra")]
)
def test_a_plan_without_rank_answers_like_the_base_model(method: str) -> None:
    recorder = TRAINERS["real"]()
    for name in ("base", method):
        run = run_of(plan(name, NONE), recorder)
        answer(run, train(run), "validation", generate=True)
    plain, ranked = recorder.asked[:4], recorder.asked[4:]
    trainer = PeftTrainer(BASE, SETTINGS)
    assert trainer.predict(plain) == trainer.predict(ranked)


@every_method
def test_predictions_are_grouped_by_user_in_the_order_of_the_task(method: str) -> None:
    run = run_of(plan(method), made(method))
    predictions = answer(run, train(run), "validation", generate=False)
    held_out = [item for user in task().targets for item in user.validation]
    assert [(p.user, p.query, p.reference) for p in predictions.items] == [
        (item.user, item.query, item.response) for item in held_out
    ]
    assert predictions.histories == {user.user: user.history for user in task().targets}
    assert predictions.task == task()


# UeLP answers inside the base, past the trainer; PER-PCS needs adapters that hold numbers.
@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("uelp", "per_pcs")])
def test_a_prediction_carries_what_the_trainer_answered(method: str) -> None:
    run = run_of(plan(method), Recorder())
    predictions = answer(run, train(run), "test", generate=False)
    assert {(p.loss, p.tokens, p.generated) for p in predictions.items} == {(1.0, 2, "text")}


# --- what sets them apart -------------------------------------------------------------------


def local_jobs(method: str, **changes: Any) -> list[TrainJob]:
    _, recorder = trained(method, Recorder, **changes)
    return [job for job in recorder.jobs if job.key == "local:dora"]


def order(job: TrainJob) -> list[str]:
    return [max(marks(example.response)) for example in job.examples]


def test_milp_injects_memory_and_then_tunes_from_it_in_random_order() -> None:
    memory, tuning = local_jobs("milp")
    assert (memory.epochs, tuning.epochs) == (SETTINGS.injection_epochs, SETTINGS.tuning_epochs)
    assert {example.prompt for example in memory.examples} == {""}
    assert all(example.prompt.endswith("\nAnswer:") for example in tuning.examples)
    assert memory.start is None
    assert tuning.start is not None
    assert tuning.start.key == memory.key
    assert tuning.shuffle


def test_oppu_tunes_one_fresh_adapter_in_random_order() -> None:
    (tuning,) = local_jobs("oppu")
    assert (tuning.start, tuning.below, tuning.shuffle) == (None, (), True)


@pytest.mark.parametrize("method", ["logo", "milp_logo"])
def test_the_temporal_mediator_learns_in_order_on_top_of_the_global_adapter(method: str) -> None:
    jobs = local_jobs(method)
    assert len(jobs) == (2 if method == "milp_logo" else 1)
    for job in jobs:
        assert not job.shuffle
        assert order(job) == [f"dorapast{n}" for n in range(7)]
        assert [adapter.key.split(":")[0] for adapter in job.below] == ["global"]


@pytest.mark.parametrize("method", ["logo", "milp_logo"])
def test_the_shuffled_mediator_differs_in_the_order_of_tuning_alone(method: str) -> None:
    for one, other in zip(local_jobs(method), local_jobs(method, mediator="shuffled"), strict=True):
        assert one.examples == other.examples
        assert [a.key for a in one.below] == [a.key for a in other.below]
    assert other.shuffle


@pytest.mark.parametrize("method", ["logo", "milp_logo"])
def test_the_mediator_none_learns_on_the_bare_base_and_stacks_afterwards(method: str) -> None:
    assert all(job.below == () for job in local_jobs(method, mediator="none"))
    stacks, _ = trained(method, Recorder, mediator="none")
    assert [a.key.split(":")[0] for a in stacks["dora"]] == ["global", "local"]


@pytest.mark.parametrize("method", ["logo", "milp_logo"])
def test_without_rank_no_global_stage_runs(method: str) -> None:
    stacks, recorder = trained(method, Recorder, adapter=NONE)
    assert set(stacks.values()) == {()}
    assert (recorder.jobs, recorder.embedded) == ([], [])


@pytest.mark.parametrize("k", [0, 1, 3])
def test_k_earlier_items_stand_in_the_prompts_of_tuning(k: int) -> None:
    (job,) = local_jobs("logo", retrieved_items=k)
    counts = [example.prompt.count("Answer: ") for example in job.examples]
    assert counts == [min(k, place) for place in range(7)]


def test_base_trains_nothing_and_retrieves() -> None:
    recorder = Recorder()
    run = run_of(plan("base"), recorder)
    answer(run, train(run), "test", generate=False)
    assert recorder.jobs == []
    assert all(e.prompt.count("Answer: ") == 1 for job in recorder.asked for e in job.examples)
