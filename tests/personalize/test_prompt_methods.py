"""What stands in the prompts of the rows: random items, profiles, whole histories, memories."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.making import llama
from milp_search.adapters.jobs import Answer, PredictJob
from milp_search.adapters.peft_trainer import PeftTrainer
from milp_search.core.methods import METHODS
from milp_search.core.records import Interaction
from milp_search.personalize.malp import Memory
from milp_search.personalize.profile_text import profile_prompt
from milp_search.personalize.retrieval import random_places
from milp_search.personalize.run import answer, train
from personalize.cached import cached
from personalize.making import SETTINGS, USERS, Recorder, plan, run_of, task


class Writer(Recorder):
    """A recorder whose base model answers with the marks of what it was shown."""

    def predict(self, jobs: Any) -> list[list[Answer]]:
        self.asked += jobs
        return [
            [Answer(1.0, 2, f"likes\n  {example.prompt[9:26]}") for example in job.examples]
            for job in jobs
        ]


def prompts(recorder: Recorder) -> list[str]:
    return [example.prompt for job in recorder.asked for example in job.examples]


def defaults(method: str) -> dict[str, Any]:
    return dict(METHODS[method].defaults)


# --- random items ---------------------------------------------------------------------------


def test_random_places_are_distinct_and_below_their_limits() -> None:
    places = random_places([0, 1, 5, 5], 3, 0, "anna")
    assert places[0].tolist() == [-1, -1, -1]
    assert places[1].tolist() == [0, -1, -1]
    for row in places[2:].tolist():
        assert len(set(row)) == 3
        assert all(0 <= place < 5 for place in row)


def test_random_places_are_those_of_seed_and_user() -> None:
    limits = [50] * 20
    one = random_places(limits, 1, 0, "anna")
    assert np.array_equal(one, random_places(limits, 1, 0, "anna"))
    assert not np.array_equal(one, random_places(limits, 1, 1, "anna"))
    assert not np.array_equal(one, random_places(limits, 1, 0, "bert"))
    # Every place is drawn about alike: 2,000 draws of 50 places, 40 each; 5 deviations is 31.
    many = np.bincount(random_places([50] * 2000, 1, 0, "anna")[:, 0], minlength=50)
    assert many.min() > 9
    assert many.max() < 71


def test_the_base_with_a_random_item_shows_one_of_the_users_past() -> None:
    recorder = Recorder()
    run = run_of(plan("base_random", **defaults("base_random")), recorder)
    answer(run, train(run), "test", generate=True)
    for user, prompt in zip(USERS, prompts(recorder), strict=True):
        assert prompt.count("Question:") == 2
        assert f"r{user}past" in prompt
    other = replace(run, seed=1, trainer=Recorder())
    answer(other, train(other), "test", generate=True)
    assert prompts(other.trainer) != prompts(recorder)  # type: ignore[arg-type]


def test_random_items_of_training_come_from_before() -> None:
    recorder = Recorder()
    train(run_of(plan("oppu", retrieval="random", retrieved_items=9), recorder))
    for job in recorder.jobs:
        for place, example in enumerate(job.examples):
            assert example.prompt.count("Question:") == place + 1


# --- profiles -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["oppu_pag", "logo_pag"])
def test_each_prompt_begins_with_its_users_profile(method: str) -> None:
    recorder = Writer()
    run = run_of(plan(method, **defaults(method)), recorder)
    answer(run, train(run), "validation", generate=True)
    local = [job for job in recorder.jobs if job.key.startswith("local:")]
    for user, job in zip(USERS, local, strict=True):
        for example in job.examples:
            assert example.prompt.startswith("Profile: likes ")
            assert not {name for name in USERS if name != user and name in example.prompt}
    held_out = [job for job in recorder.asked if not job.examples[0].prompt.endswith("Summary:")]
    assert all(
        example.prompt.startswith("Profile: likes ") for job in held_out for example in job.examples
    )


def test_a_profile_is_asked_of_the_base_with_the_training_history_alone() -> None:
    for user in task().targets:
        text = profile_prompt(user)
        assert all(f"r{user.user}past{n}" in text for n in range(len(user.history)))
        assert "valid" not in text
        assert "test" not in text
        assert not {name for name in USERS if name != user.user and name in text}


def test_profiles_are_written_once_and_kept(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        recorder = Writer()
        run = replace(cached(tmp_path, "oppu", profile=True), trainer=recorder)
        train(run)
        seen.append([example.prompt for job in recorder.jobs for example in job.examples])
        assert len(recorder.asked) == (4 if len(seen) == 1 else 0)
    assert seen[0] == seen[1]


# --- TpLP -----------------------------------------------------------------------------------


def test_tplp_shows_the_whole_history_in_order_and_trains_nothing() -> None:
    recorder = Recorder()
    run = run_of(plan("tplp"), recorder)
    answer(run, train(run), "validation", generate=True)
    assert recorder.jobs == []
    for user, job in zip(task().targets, recorder.asked, strict=True):
        marks = [f"r{user.user}past{n}." for n in range(len(user.history))]
        for example in job.examples:
            places = [example.prompt.index(mark) for mark in marks]
            assert places == sorted(places)


# --- MaLP -----------------------------------------------------------------------------------


def history(*words: str) -> tuple[Interaction, ...]:
    return tuple(Interaction("u", word, "yes") for word in words)


def test_short_term_memory_is_what_came_last() -> None:
    memory = Memory(history(*"abcdefg"))
    assert memory.held(2) == {0, 1}
    assert memory.held(7) == {3, 4, 5, 6}


def test_what_is_recalled_twice_stays_in_long_term_memory() -> None:
    memory = Memory(history("apple", "apple", "apple", "p", "q", "r", "s", "t", "u"))
    # The second item recalls the first; the third recalls the second, the later of two equals.
    assert memory.held(9) == {5, 6, 7, 8}
    memory = Memory(history("apple tree", "apple", "tree", "p", "q", "r", "s", "t", "u"))
    assert memory.held(9) == {0, 5, 6, 7, 8}
    assert memory.search("tree", 2, 9) == [0]


def test_malp_shows_remembered_items_and_tunes_with_them() -> None:
    recorder = Recorder(PeftTrainer(llama(), SETTINGS))
    run = run_of(plan("malp", retrieved_items=2), recorder)
    answer(run, train(run), "validation", generate=False)
    assert [job.key for job in recorder.jobs] == [f"local:{user}" for user in USERS]
    asked: list[PredictJob] = recorder.asked
    for job in asked:
        assert len(job.adapters) == 1
        assert all(example.prompt.count("Question:") == 3 for example in job.examples)
