"""What the two methods that train networks inside the base let these networks know."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from adapters.making import llama, same, weights
from milp_search.adapters.jobs import AdapterTrainer, Answer, Example, TrainJob
from milp_search.adapters.packed.trainer import PackedTrainer
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.adapters.soft_prompt import answer_softly
from milp_search.core.plan import AdapterPlan
from milp_search.core.records import PersonalizationTask, Predictions, UserHistory, UserTask
from milp_search.dispatch.rendezvous import train_together
from milp_search.personalize import p2p as p2p_module
from milp_search.personalize import uelp as uelp_module
from milp_search.personalize.item_vectors import item_vectors, means_before, standardised
from milp_search.personalize.method import Run
from milp_search.personalize.p2p import learning_users
from milp_search.personalize.run import answer, train
from personalize.making import SETTINGS, USERS, Recorder, item, plan, run_of, task, user_task

BASE = llama()
NAMES = (*USERS, "zeno")
both = pytest.mark.parametrize("method", ["p2p", "uelp"])


def mark(text: str) -> tuple[str, str, int]:
    """Returns the canary of a text: whose it is, its part of the split and its place."""
    (found,) = re.findall(r"([a-z]{4})(past|valid|test)(\d)", text)
    return found[0], found[1], int(found[2])


class Numbering(Recorder):
    """A recorder whose vector of a text is (user, place, question or answer)."""

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Returns one such vector a text."""
        self.embedded += texts
        marks = [(*mark(text), text.endswith("?")) for text in texts]
        return torch.tensor(
            [[NAMES.index(user), float(place), question] for user, _, place, question in marks]
        )


class Spied:
    """Notes what a network is trained on and asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.jobs: list[TrainJob] = []
        self.known: list[Sequence[torch.Tensor]] = []
        self.asked: list[tuple[Sequence[Example], Sequence[torch.Tensor]]] = []
        self._answer = answer_softly
        for module, name in ((p2p_module, "fit_hypernetwork"), (uelp_module, "fit_encoder")):
            monkeypatch.setattr(module, name, self._fit(getattr(module, name)))
        monkeypatch.setattr(uelp_module, "answer_softly", self._answer_softly)

    def _fit(self, fit: Any) -> Any:
        def spy(
            trainer: AdapterTrainer, job: TrainJob, known: Sequence[torch.Tensor], *more: Any
        ) -> Any:
            self.jobs.append(job)
            self.known.append(known)
            return fit(trainer, job, known, *more)

        return spy

    def _answer_softly(
        self, trainer: Any, encoder: Any, examples: Any, pasts: Any, *, generate: bool
    ) -> list[Answer]:
        self.asked.append((examples, pasts))
        return self._answer(trainer, encoder, examples, pasts, generate=generate)


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> Spied:
    return Spied(monkeypatch)


def numbered(users: Sequence[UserTask]) -> list[np.ndarray]:
    """Returns the users' item vectors by the embedding above."""
    return standardised(item_vectors(users, lambda texts: Numbering().embed(texts).numpy()))


def answered(run: Run, split: Any = "validation") -> Predictions:
    return answer(run, train(run), split, generate=True)


def losses(run: Run) -> list[float]:
    return [one.loss for one in answered(run).items]


# --- vectors --------------------------------------------------------------------------------


def test_an_items_vector_is_that_of_the_query_and_then_that_of_the_response() -> None:
    users = [user_task("anna", 0.0, 2), user_task("bert", 0.0, 1)]
    one, other = item_vectors(users, lambda texts: Numbering().embed(texts).numpy())
    assert one.tolist() == [[0, 0, 1, 0, 0, 0], [0, 1, 1, 0, 1, 0]]
    assert other.tolist() == [[1, 0, 1, 1, 0, 0]]


def test_standardised_entries_have_mean_0_and_variance_1_over_all_items() -> None:
    one, other = standardised([np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[5.0, 5.0]])])
    third = (3 / 2) ** 0.5
    assert one[:, 0] == pytest.approx([-third, 0])
    assert other[:, 0] == pytest.approx([third])
    assert np.concatenate([one, other])[:, 1].tolist() == [0, 0, 0]


def test_a_mean_before_a_place_is_of_the_items_before_it_alone() -> None:
    means = means_before(np.array([[2.0, 1.0], [4.0, 0.0], [9.0, 5.0]]))
    assert means.tolist() == [[0, 0], [2, 1], [3, 0.5], [5, 2]]


def test_histories_without_items_have_vectors_of_none() -> None:
    users = [replace(user_task(name, 0.0), history=()) for name in USERS[:2]]
    for vectors in standardised(item_vectors(users, lambda _: np.zeros((0, 3)))):
        assert vectors.shape == (0, 1)
        assert means_before(vectors).tolist() == [[0]]


# --- what is learnt from --------------------------------------------------------------------


@both
def test_a_network_learns_once_from_all_training_histories_and_no_held_out_text(
    method: str, spied: Spied
) -> None:
    recorder = Numbering()
    answered(run_of(plan(method, retrieved_items=9), recorder))
    (job,) = spied.jobs
    assert (job.epochs, job.shuffle, job.seed) == (SETTINGS.tuning_epochs, True, 0)
    expected = [one for user in task().targets for one in user.history]
    assert [example.response for example in job.examples] == [f" {e.response}" for e in expected]
    seen = {found for one in job.examples for found in re.findall("valid|test", one.prompt)}
    assert seen | {mark(text)[1] for text in recorder.embedded} == {"past"}
    for one, example in zip(expected, job.examples, strict=True):
        others = set(USERS) - {one.user}
        assert not [name for name in others if name in example.prompt]


def test_p2p_knows_of_an_item_the_mean_of_its_users_items_before(spied: Spied) -> None:
    train(run_of(plan("p2p"), Numbering()))
    expected = [
        history[:place].mean(0) if place else 0 * history[0]
        for history in numbered(task().targets)
        for place in range(len(history))
    ]
    for known, vector in zip(spied.known[0], expected, strict=True):
        assert known.numpy() == pytest.approx(vector, abs=1e-5)


def test_uelp_knows_of_an_item_its_users_items_before_in_order(spied: Spied) -> None:
    train(run_of(plan("uelp"), Numbering()))
    expected = [
        history[:place] for history in numbered(task().targets) for place in range(len(history))
    ]
    for known, vectors in zip(spied.known[0], expected, strict=True):
        assert np.array_equal(known.numpy(), vectors)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_uelp_answers_from_the_users_own_training_history(split: Any, spied: Spied) -> None:
    answered(run_of(plan("uelp", retrieved_items=9), Numbering()), split)
    ((examples, pasts),) = spied.asked
    places = iter(zip(examples, pasts, strict=True))
    for user, history in zip(task().targets, numbered(task().targets), strict=True):
        for query in user.validation if split == "validation" else user.test:
            example, past = next(places)
            assert np.array_equal(past.numpy(), history)
            assert example.prompt.endswith(f"{query.query}\nAnswer:")
            assert example.response == f" {query.response}"
            shown = re.findall(r"q([a-z]{4})(past|valid|test)(\d)", example.prompt)
            assert len(shown) == len(user.history) + 1
            assert {name for name, _, _ in shown} == {user.user}
            assert [part for _, part, _ in shown[:-1]] == ["past"] * len(user.history)
    assert list(places) == []


def with_others(count: int) -> PersonalizationTask:
    sizes = [(f"o{n}", n % 3 + 1) for n in range(count)]
    others = tuple(
        UserHistory(name, tuple(item("zeno", "past", n) for n in range(size)))
        for name, size in sizes
    )
    return replace(task(), others=others)


def test_p2p_learns_of_the_most_active_others_where_they_are_enough() -> None:
    assert learning_users(with_others(3)) == task().targets
    assert [user.user for user in learning_users(with_others(4))] == ["o2", "o1", "o0", "o3"]
    many = learning_users(with_others(50))
    assert [len(user.history) for user in many] == [3] * 16


def test_p2p_trains_nothing_for_a_target_where_others_are_enough(spied: Spied) -> None:
    run = replace(run_of(plan("p2p"), Numbering()), task=with_others(4))
    stacks = train(run).stacks
    (job,) = spied.jobs
    assert {mark(one.response)[0] for one in job.examples} == {"zeno"}
    assert tuple(stacks) == USERS
    bs = [float(b.sum()) for (one,) in stacks.values() for _, b in one.tensors.values()]
    assert len(set(bs)) == len(bs)


def test_p2ps_learners_have_a_profile_and_their_own_earlier_items_in_their_prompts(
    spied: Spied,
) -> None:
    run = run_of(plan("p2p", profile=True, retrieved_items=9), Numbering())
    train(replace(run, task=with_others(4)))
    (job,) = spied.jobs
    assert [one.prompt.count("Question:") for one in job.examples] == [1, 2, 3, 1, 2, 1, 1]
    assert all(one.prompt.startswith("Profile: text\n") for one in job.examples)


# --- what both keep to ----------------------------------------------------------------------


@both
@pytest.mark.parametrize("kind", [PeftTrainer, PackedTrainer])
def test_plans_that_share_a_trainer_answer_as_each_alone(method: str, kind: Any) -> None:
    plans_of = [plan(method), plan("oppu", AdapterPlan((2, 1, 0)))]
    runs = [run_of(one, kind(BASE, SETTINGS)) for one in plans_of]
    before = weights(BASE.model)
    trainer: AdapterTrainer = kind(BASE, SETTINGS)
    plans = [lambda seat, run=run: losses(replace(run, trainer=seat)) for run in runs]
    together = train_together(trainer, plans)
    assert same(weights(BASE.model), before)
    for run, found in zip(runs, together, strict=True):
        assert found == pytest.approx(losses(run), abs=1e-4)


@both
def test_a_seed_decides_the_answers(method: str) -> None:
    first, again, other = (
        losses(run_of(plan(method), PeftTrainer(BASE, SETTINGS), seed)) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


@both
@pytest.mark.parametrize("embedding", ["hidden", "tfidf"])
def test_users_with_one_item_or_none_and_a_single_user_are_answered(
    method: str, embedding: str
) -> None:
    settings = replace(SETTINGS, embedding=embedding)
    short = [replace(user_task(name, 0.0), history=()) for name in USERS[:2]]
    some = replace(short[1], history=user_task("bert", 0.0).history[:1])
    for targets in ((short[0], some), (some,), (short[0],)):
        run = replace(
            run_of(plan(method), PeftTrainer(BASE, settings)),
            task=replace(task(), targets=targets, others=()),
        )
        predictions = answered(run).items
        assert [one.user for one in predictions] == [u.user for u in targets for _ in range(2)]
        assert all(np.isfinite(one.loss) for one in predictions)


def test_p2p_without_rank_trains_nothing(spied: Spied) -> None:
    recorder = Numbering()
    assert set(train(run_of(plan("p2p", AdapterPlan((0, 0, 0))), recorder)).stacks.values()) == {()}
    assert (spied.jobs, recorder.embedded) == ([], [])
