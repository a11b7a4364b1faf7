"""Several plans on one trainer: what meets, what fails, and that threads end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.making import llama
from dispatch.counting_trainer import CountingTrainer, predict_job, train_job
from milp_search.adapters.jobs import AdapterTrainer
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.dispatch.rendezvous import train_together
from milp_search.personalize.method import Stacks
from milp_search.personalize.run import train
from personalize import making

Body = Callable[[AdapterTrainer], list[str]]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert "plan" not in [thread.name for thread in threading.enumerate()]


def trains(name: str, times: int) -> Body:
    """Returns a plan that trains some adapters one after another and then asks one query."""

    def plan(trainer: AdapterTrainer) -> list[str]:
        keys = [trainer.train([train_job(f"{name}{n}")])[0].key for n in range(times)]
        ((answer,),) = trainer.predict([predict_job(name * times)])
        return [*keys, str(answer.loss)]

    return plan


def test_plans_that_ask_for_the_same_meet_in_one_call() -> None:
    trainer = CountingTrainer()
    results = train_together(trainer, [trains("a", 2), trains("b", 2), trains("c", 2)])
    assert trainer.calls == [
        ("train", ["a0", "b0", "c0"]),
        ("train", ["a1", "b1", "c1"]),
        ("predict", ["aa", "bb", "cc"]),
    ]
    assert results == [["a0", "a1", "2.0"], ["b0", "b1", "2.0"], ["c0", "c1", "2.0"]]


def test_a_plan_with_more_to_train_is_waited_for_before_anything_is_answered() -> None:
    trainer = CountingTrainer()
    assert train_together(trainer, [trains("a", 1), trains("b", 3)]) == [
        ["a0", "1.0"], ["b0", "b1", "b2", "3.0"],
    ]  # fmt: skip
    assert [name for name, _ in trainer.calls] == ["train"] * 3 + ["predict"]


def test_texts_are_embedded_together_and_before_any_training() -> None:
    trainer = CountingTrainer()

    def embeds(*texts: str) -> Body:
        return lambda t: [str(row) for row in t.embed(texts).flatten().tolist()]

    plans = [embeds("x", "yy"), trains("a", 1), embeds("zzz")]
    assert train_together(trainer, plans) == [["1.0", "2.0"], ["a0", "1.0"], ["3.0"]]
    assert trainer.calls[0] == ("embed", ["x", "yy", "zzz"])


def test_the_trainer_works_in_the_callers_thread_alone() -> None:
    trainer = CountingTrainer()
    train_together(trainer, [trains("a", 2), trains("b", 1)])
    assert trainer.threads == {threading.get_ident()}


def test_plans_run_one_at_a_time_in_their_order() -> None:
    order: list[str] = []

    def plan(name: str) -> Body:
        def body(trainer: AdapterTrainer) -> list[str]:
            for part in range(3):
                order.append(name)
                time.sleep(0.002)
                order.append(name)
                trainer.train([train_job(f"{name}{part}")])
            return []

        return body

    train_together(CountingTrainer(), [plan("a"), plan("b")])
    assert order == ["a", "a", "b", "b"] * 3


def test_a_plan_sees_the_trainers_settings_and_halvings() -> None:
    trainer = CountingTrainer()
    seen = train_together(trainer, [lambda t: (t.settings, t.halvings)])
    assert seen == [(trainer.settings, 2)]


def test_a_plan_that_fails_fails_alone() -> None:
    error = ValueError("mine")

    def fails(trainer: AdapterTrainer) -> list[str]:
        trainer.train([train_job("f0")])
        raise error

    trainer = CountingTrainer()
    assert train_together(trainer, [fails, trains("a", 2)]) == [error, ["a0", "a1", "2.0"]]
    assert trainer.calls[1:] == [("train", ["a1"]), ("predict", ["aa"])]


def test_a_call_that_fails_fails_for_all_who_took_part() -> None:
    trainer = CountingTrainer()
    trainer.raises = MemoryError()
    results = train_together(trainer, [trains("a", 2), trains("b", 1), lambda _: ["neither"]])
    assert results == [trainer.raises, trainer.raises, ["neither"]]
    assert len(trainer.calls) == 1


def test_plans_that_ask_for_nothing_just_end() -> None:
    assert train_together(CountingTrainer(), [lambda _: 1, lambda _: 2]) == [1, 2]
    assert train_together(CountingTrainer(), []) == []


def test_an_interrupt_in_the_trainer_ends_all_plans_and_comes_out() -> None:
    trainer = CountingTrainer()
    trainer.raises = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        train_together(trainer, [trains("a", 2), trains("b", 1)])


def test_an_interrupt_while_a_plan_works_comes_out_once_it_asks_for_something() -> None:
    # A shell lets what it starts in the background ignore interrupts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def works(trainer: AdapterTrainer) -> list[str]:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        return trains("a", 1)(trainer)

    trainer = CountingTrainer()
    try:
        with pytest.raises(KeyboardInterrupt):
            train_together(trainer, [works, trains("b", 1)])
    finally:
        signal.signal(signal.SIGINT, before)
    assert trainer.calls == []


KINDS = ("embed", "train", "predict")


@given(st.lists(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 3))), max_size=4))
def test_whatever_plans_ask_for_each_gets_its_own_answers_and_nothing_is_asked_twice(
    wishes: list[list[tuple[str, int]]],
) -> None:
    def body(number: int, trainer: AdapterTrainer) -> list[object]:
        return [_ask(trainer, kind, f"{number}-{n}-", count)
                for n, (kind, count) in enumerate(wishes[number])]  # fmt: skip

    alone = [body(number, CountingTrainer()) for number in range(len(wishes))]
    trainer = CountingTrainer()
    bodies = [partial(body, number) for number in range(len(wishes))]
    assert train_together(trainer, bodies) == alone
    asked = [item for _, items in trainer.calls for item in items]
    assert len(asked) == len(set(asked)) == sum(count for plan in wishes for _, count in plan)


def _ask(trainer: AdapterTrainer, kind: str, name: str, count: int) -> object:
    names = [name + "x" * n for n in range(count)]
    if kind == "embed":
        return trainer.embed(names).tolist()
    if kind == "train":
        return [adapter.key for adapter in trainer.train([train_job(one) for one in names])]
    return trainer.predict([predict_job(*names)])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["milp_logo", "milp", "oppu", "base"])
def test_adapters_do_not_depend_on_who_was_trained_together(method: str) -> None:
    base = llama()
    plans = [
        making.plan(method),
        making.plan(method, retrieved_items=0),
        making.plan("milp_logo", time_splits=1, communities=1),
    ]

    def body(number: int, trainer: AdapterTrainer) -> Stacks:
        return train(making.run_of(plans[number], trainer, seed=number)).stacks

    alone = [body(n, PeftTrainer(base, making.SETTINGS)) for n in range(3)]
    bodies = [partial(body, n) for n in range(3)]
    for expected, result in zip(
        alone, train_together(PeftTrainer(base, making.SETTINGS), bodies), strict=True
    ):
        assert not isinstance(result, Exception)
        assert numbers_of(result) == numbers_of(expected)


def numbers_of(stacks: Stacks) -> dict[str, list[list[float]]]:
    """Returns all matrices of each user's adapters as numbers."""
    return {
        user: [
            matrix.flatten().tolist()
            for adapter in stack
            for pair in adapter.tensors.values()
            for matrix in pair
        ]
        for user, stack in stacks.items()
    }
