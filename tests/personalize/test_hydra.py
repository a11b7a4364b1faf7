"""HYDRA: what its parts learn from, which items are shown, which answer is given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from adapters.making import llama
from milp_search.adapters.jobs import Answer, PredictJob
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.core.records import Interaction, UserHistory, UserTask
from milp_search.personalize.hydra import (
    Query,
    held_out_queries,
    hydra,
    reranked,
    train_chooser,
    train_reranker,
    training_queries,
    windows,
)
from milp_search.personalize.method import Run
from milp_search.personalize.run import answer, train
from personalize.making import SETTINGS, USERS, Recorder, item, plan, run_of, task


def marks(text: str) -> set[str]:
    """Returns the canaries in a text, such as `annapast3`."""
    return set(re.findall(r"(?:anna|bert|cleo|dora|zeno)(?:past|valid|test)\d", text))


def recorded(k: int = 1, **changes: Any) -> tuple[Run, Recorder]:
    recorder = Recorder()
    return run_of(plan("hydra", retrieved_items=k, **changes), recorder), recorder


def prompts(jobs: Sequence[PredictJob]) -> list[str]:
    return [example.prompt for job in jobs for example in job.examples]


# --- what is learned from -------------------------------------------------------------------


def test_queries_are_the_latest_of_each_history_with_items_from_before() -> None:
    run, _ = recorded()
    long = tuple(item("anna", "past", n) for n in range(12))
    run = run.among([replace(task().targets[0], history=long)])
    anna = [query for query in training_queries(run) if query.user.user == "anna"]
    assert [query.item for query in anna] == [*long[4:]]
    for query in anna:
        place = long.index(query.item)
        # All items are alike, so that the latest four resemble the query most.
        assert query.places == (place - 1, place - 2, place - 3, place - 4)


def test_twice_k_items_are_found_where_k_is_large() -> None:
    run, _ = recorded(3)
    dora = [query for query in training_queries(run) if query.user.user == "dora"]
    assert max(len(query.places) for query in dora) == 6


def test_who_is_no_target_helps_to_learn_and_the_most_active_alone() -> None:
    run, _ = recorded()
    others = [UserHistory(f"o{n}", tuple(item(f"o{n}", "past", i) for i in range(2 + n % 9)))
              for n in range(40)]  # fmt: skip
    known = training_queries(replace(run, task=replace(run.task, others=tuple(others))))
    found = {query.user.user for query in known} - {*USERS}
    sizes = {user.user: len(user.interactions) for user in others}
    assert len(found) == 16
    assert min(sizes[user] for user in found) >= sorted(sizes.values())[-16]


def test_learning_shows_each_user_items_of_their_own_past_and_nothing_held_out() -> None:
    run, recorder = recorded(2)
    hydra(run)
    shown = prompts(recorder.asked)
    assert shown
    for prompt in shown:
        own = re.findall(r"[a-z]+(?=past\d\?)", prompt)
        assert len({*own}) == 1
        assert all(re.fullmatch(r"(anna|bert|cleo|dora|zeno)past\d", one) for one in marks(prompt))
        numbers = [int(one) for one in re.findall(r"past(\d)\?", prompt)]
        # The query stands last, and what is above it came before.
        assert all(number < numbers[-1] for number in numbers[:-1])
    assert all("valid" not in text and "test" not in text for text in recorder.embedded)


def test_held_out_texts_change_nothing() -> None:
    run, recorder = recorded(2)
    hydra(run)
    blind = tuple(replace(user, validation=(), test=()) for user in run.task.targets)
    other = Recorder()
    hydra(replace(run.among(blind), trainer=other))
    assert prompts(other.asked) == prompts(recorder.asked)
    assert other.embedded == recorder.embedded


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("generate", [True, False])
def test_answering_shows_the_users_own_past(split: Any, generate: bool) -> None:
    run, recorder = recorded(2)
    trained = train(run)
    learning = len(recorder.asked)
    answer(run, trained, split, generate=generate)
    asked = [(user, one) for user in run.task.targets
             for one in (user.validation if split == "validation" else user.test)]  # fmt: skip
    for (user, one), job in zip(asked, recorder.asked[learning:], strict=True):
        (own,) = marks(one.query)
        assert len(job.examples) == (4 if generate else 1)
        for example in job.examples:
            shown = marks(example.prompt) - {own}
            assert shown <= {f"{user.user}past{n}" for n in range(len(user.history))}
            assert f"r{own}" not in example.prompt
            assert example.response == f" {one.response}"
        assert job.examples[0].prompt.count("Question:") == 3
        assert not any(f"r{own}" in text for text in recorder.embedded)


# --- items ----------------------------------------------------------------------------------

WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa",
         "lambda", "mu")  # fmt: skip


class Likes(Recorder):
    """A trainer for whom a prompt with a good item in it halves the loss.

    The vectors of texts tell whether `good` or `bad` stands in them, and little else.
    """

    def predict(self, jobs: Sequence[PredictJob]) -> list[list[Answer]]:
        self.asked += jobs
        return [
            [Answer(0.5 if "good" in e.prompt else 1.0, 2, None) for e in job.examples]
            for job in jobs
        ]

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        self.embedded += texts
        return torch.tensor(
            [
                [float("good" in text), float("bad" in text), len(text) % 3 / 3, 0.5]
                for text in texts
            ]
        )


def mixed(user: str) -> UserTask:
    history = tuple(
        Interaction(user, f"{word} and tea", "good" if place % 2 else "bad")
        for place, word in enumerate(WORDS)
    )
    return UserTask(user, history, (Interaction(user, "more tea", "yes"),), ())


def liking() -> Run:
    run = replace(run_of(plan("hydra"), Likes()), task=replace(task(), others=()))
    return run.among([mixed("anna"), mixed("bert")])


def test_items_that_lower_the_loss_come_first() -> None:
    run = liking()
    reranker = train_reranker(run, training_queries(run))
    (anna, _) = asked = held_out_queries(run, [user.validation for user in run.task.targets])
    # BM25 finds all alike and puts the latest first: good, bad, good, bad.
    assert anna.places == (11, 10, 9, 8)
    assert reranked(run, asked, reranker) == [[11, 9, 10, 8]] * 2
    assert reranked(run, asked, None) == [[11, 10, 9, 8]] * 2


def test_items_that_all_help_alike_keep_bm25s_order() -> None:
    run = replace(liking(), trainer=Recorder())
    assert train_reranker(run, training_queries(run)) is None


@pytest.mark.parametrize("bar", ["plain", "mean"])
def test_an_item_has_to_beat_no_item_and_the_mean_of_the_items(bar: str) -> None:
    """Losses .4 (good) and .8 (bad); without items .3 or 2, so that none or the good ones help."""

    class Bars(Likes):
        def predict(self, jobs: Sequence[PredictJob]) -> list[list[Answer]]:
            def loss(prompt: str) -> float:
                if prompt.count("Question:") == 1:
                    return 0.3 if bar == "plain" else 2.0
                return 0.4 if "good" in prompt else 0.8

            return [[Answer(loss(e.prompt), 2, None) for e in job.examples] for job in jobs]

    run = replace(liking(), trainer=Bars())
    reranker = train_reranker(run, training_queries(run))
    if bar == "plain":
        assert reranker is None
    else:
        asked = held_out_queries(run, [user.validation for user in run.task.targets])
        assert reranked(run, asked, reranker) == [[11, 9, 10, 8]] * 2


def test_each_item_is_tried_alone_beside_no_item_at_all() -> None:
    run = liking()
    known = training_queries(run)
    train_reranker(run, known)
    jobs = run.trainer.asked  # type: ignore[attr-defined]
    assert [len(job.examples) for job in jobs] == [
        1 + len(query.places) for query in known if len(query.places) > 1
    ]
    for job in jobs:
        counts = [example.prompt.count("Question:") for example in job.examples]
        assert counts == [1, *[2] * (len(counts) - 1)]


def test_a_user_who_wants_other_items_has_a_ranking_of_their_own() -> None:
    class Divided(Likes):
        def predict(self, jobs: Sequence[PredictJob]) -> list[list[Answer]]:
            def loss(prompt: str) -> float:
                good = "good" if "anna" in prompt else "bad"
                return 0.5 if good in prompt else 1.0

            return [[Answer(loss(e.prompt), 2, None) for e in job.examples] for job in jobs]

    def named(user: str) -> UserTask:
        known = mixed(user)
        history = tuple(replace(one, query=f"{one.query} {user}") for one in known.history)
        return replace(known, history=history)

    run = replace(liking().among([named("anna"), named("bert")]), trainer=Divided())
    reranker = train_reranker(run, training_queries(run))
    asked = held_out_queries(run, [user.validation for user in run.task.targets])
    anna, bert = reranked(run, asked, reranker)
    assert [place % 2 for place in anna] == [1, 1, 0, 0]
    assert [place % 2 for place in bert] == [0, 0, 1, 1]


def test_windows_start_at_the_first_second_and_third_item_and_end_without_any() -> None:
    assert windows([7, 5, 3, 1], 2) == [(7, 5), (5, 3), (3, 1), ()]
    assert windows([7, 5], 1) == [(7,), (5,), ()]
    assert windows([7], 4) == [(7,), ()]
    assert windows([], 1) == [()]


# --- answers --------------------------------------------------------------------------------


class Writes(Recorder):
    """A base that writes `wrong` and how many items it was shown, and once `fine`.

    It does so with so many items in the prompt of a held-out query. The vectors of texts tell
    whether either word stands in them.
    """

    def __init__(self, fine: int):
        super().__init__()
        self.fine = fine

    def predict(self, jobs: Sequence[PredictJob]) -> list[list[Answer]]:
        self.asked += jobs
        return [[self._answer(e.prompt, job.generate) for e in job.examples] for job in jobs]

    def _answer(self, prompt: str, generate: bool) -> Answer:
        items = prompt.count("Question:") - 1
        word = "fine" if items == self.fine and "valid" in prompt else "wrong"
        return Answer(10.0 + items, 2, f"{word} {items}" if generate else None)

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor(
            [[float("fine" in t), float("wrong" in t), 0.5, len(t) % 3 / 3] for t in texts]
        )


@pytest.mark.parametrize("fine", [0, 2])
def test_the_answer_most_like_true_ones_is_given_and_the_first_prompts_loss_reported(
    fine: int,
) -> None:
    """True responses are `fine`; of the four prompts three hold two items and the last has none."""
    run = run_of(plan("hydra", retrieved_items=2), Writes(fine))
    found = answer(run, train(run), "validation", generate=True).items
    assert {one.generated for one in found} == {f"fine {fine}"}
    assert {one.loss for one in found} == {12.0}
    without = answer(run, train(run), "validation", generate=False).items
    assert {(one.generated, one.loss) for one in without} == {(None, 12.0)}


def test_an_answer_that_is_the_true_one_teaches_the_chooser_nothing() -> None:
    """All items say `good` or `bad`, and the base repeats the query's own."""

    class Repeats(Likes):
        def predict(self, jobs: Sequence[PredictJob]) -> list[list[Answer]]:
            return [[Answer(1.0, 2, e.response.strip()) for e in job.examples] for job in jobs]

    run = replace(liking(), trainer=Repeats())
    assert train_chooser(run, training_queries(run), None) is None
    run = replace(liking(), trainer=Recorder())
    assert train_chooser(run, training_queries(run), None) is not None


def test_without_items_the_base_answers() -> None:
    run, recorder = recorded(0)
    trained = train(run)
    answer(run, trained, "validation", generate=True)
    assert trained.respond is None
    assert recorder.embedded == []
    assert all(prompt.count("Question:") == 1 for prompt in prompts(recorder.asked))


def test_histories_without_a_pair_leave_bm25s_order_and_the_first_answer() -> None:
    run, recorder = recorded()
    new = UserTask("newt", (), (item("newt", "valid", 0),), ())
    one = UserTask("only", (item("only", "past", 0),), (item("only", "valid", 0),), ())
    run = replace(run.among([new, one]), task=replace(task(), targets=(new, one), others=()))
    found = answer(run, train(run), "validation", generate=True).items
    assert [prediction.generated for prediction in found] == ["text", "text"]
    assert [len(job.examples) for job in recorder.asked] == [1, 2]
    assert recorder.embedded == []


def test_random_items_and_profiles_stand_in_the_prompts_that_the_plan_wants_them_in() -> None:
    run, recorder = recorded(retrieval="random", profile=True)
    answer(run, train(run), "validation", generate=True)
    asked = [prompt for prompt in prompts(recorder.asked) if not prompt.endswith("Summary:")]
    assert all(prompt.startswith("Profile: text\n\n") for prompt in asked)
    known = training_queries(run)
    assert known != training_queries(replace(run, seed=1))
    assert all(max(query.places) < query.user.history.index(query.item) for query in known)


def test_a_query_knows_what_it_is_shown_with() -> None:
    user = task().targets[0]
    query = Query(user, "", user.validation[0], (2, 1))
    assert query.shown((2, 0)).prompt.count("rannapast") == 2
    assert query.shown((2, 0)).prompt.index("past0.") < query.shown((2, 0)).prompt.index("past2.")


def test_the_seed_decides_what_is_answered() -> None:
    trainer = PeftTrainer(llama(), SETTINGS)
    run = run_of(plan("hydra"), trainer, 3)
    one, other = (answer(run, train(run), "validation", generate=True) for _ in range(2))
    assert one == other
