"""Topics of generated texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from milp_search.adapters.stage_cache import StageCache
from milp_search.core.records import Interaction, PersonalizationTask, UserTask
from milp_search.core.settings import TrainingSettings
from milp_search.metrics.diversity import diversity
from milp_search.personalize import topics
from milp_search.personalize.method import Run
from milp_search.personalize.reuse import run_topics
from milp_search.personalize.run import answer, train
from personalize.making import SETTINGS, Recorder, plan, run_of

TEA = ("hot green tea", "green tea leaves", "a pot of hot tea")
CARS = ("fast red car", "red car wheels", "a red sports car")


def run_on(*responses: str, settings: TrainingSettings = SETTINGS, seed: int = 0) -> Run:
    """Returns a run on users with two such responses each."""
    targets = tuple(
        UserTask(
            f"user{n}",
            tuple(Interaction(f"user{n}", "what?", one) for one in responses[n : n + 2]),
            (Interaction(f"user{n}", "and?", "well"),),
            (),
        )
        for n in range(0, len(responses), 2)
    )
    recorder = Recorder()
    recorder.settings = settings
    task = PersonalizationTask("topics", "text", targets)
    return replace(run_of(plan("base"), recorder, seed), task=task)


def counted(*responses: str, seed: int = 0) -> Run:
    return run_on(*responses, settings=replace(SETTINGS, embedding="tfidf"), seed=seed)


def topics_of(run: Run, texts: Sequence[str]) -> tuple[list[int | None], int]:
    """Returns the topic of each text, and how many topics the run has."""
    embed, centres = run_topics(run)
    return topics.nearest_topics(texts, embed, centres), len(centres) - 1


@pytest.fixture
def two_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "_TOPICS", 2)


@pytest.mark.usefixtures("two_topics")
def test_a_text_is_about_the_topic_of_the_training_responses_it_resembles() -> None:
    found, count = topics_of(counted(*TEA, *CARS), ["tea", "car", "hot tea", "the red car", "tea"])
    assert count == 2
    assert found[0] == found[2] == found[4]
    assert found[1] == found[3] != found[0]


@pytest.mark.usefixtures("two_topics")
def test_a_text_s_topic_depends_on_neither_the_other_texts_nor_the_seed() -> None:
    texts = ["tea", "red wheels", "hot pot", "sports"]
    together, _ = topics_of(counted(*TEA, *CARS), texts)
    for seed, text in enumerate(texts):
        assert topics_of(counted(*TEA, *CARS, seed=seed), [text])[0] == [together[seed]]


def test_an_empty_text_has_no_topic() -> None:
    assert topics_of(run_on(*TEA, *CARS), ["", " \n"])[0] == [None, None]
    assert topics_of(run_on(*TEA, *CARS), ["", "tea"])[0][1] is not None


def test_there_are_no_more_topics_than_distinct_responses() -> None:
    assert topics_of(run_on("tea", "tea", "car", "tea"), ["car"])[1] == 2
    assert topics_of(run_on("tea", "tea"), ["car"]) == ([0], 1)
    # Without any word in common with anything there is one place where all lie.
    assert topics_of(counted("?", "!", "..", "-"), ["car"]) == ([0], 1)


def test_at_most_ten_topics_are_told_apart() -> None:
    responses = [f"word{n} other{n}" for n in range(24)]
    assert topics_of(counted(*responses), ["word3"])[1] == 10


def test_topics_are_found_in_a_bounded_number_of_responses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topics, "_RESPONSES", 3)
    run = run_on("a", "bb", "ccc", "dddd", "eeeee", "ffffff")
    topics_of(run, ["b"])
    assert isinstance(run.trainer, Recorder)
    # The first, the middle and the last; and the text.
    assert run.trainer.embedded == ["a", "ccc", "ffffff", "b"]


def test_topics_are_found_once_for_all_trials_of_a_study(tmp_path: Path) -> None:
    run = replace(run_on(*TEA, *CARS), cache=StageCache(tmp_path), base_fingerprint="base")
    first = topics_of(run, ["tea", "car"])
    later = replace(run, cache=StageCache(tmp_path), seed=5, trainer=Recorder())
    assert topics_of(later, ["tea", "car"]) == first
    assert isinstance(later.trainer, Recorder)
    assert later.trainer.embedded == ["tea", "car"]
    assert later.cache is not None
    assert later.cache.counts == {"topics": (1, 0)}


def test_answers_carry_their_topics_where_asked_for() -> None:
    run = run_on(*TEA, *CARS)
    plain = answer(run, train(run), "validation", generate=True)
    assert (plain.topics, {one.topic for one in plain.items}) == (0, {None})
    found = answer(run, train(run), "validation", generate=True, topics=True)
    assert found.topics == 6
    # The recorder generates one and the same text for everybody.
    assert len({one.topic for one in found.items}) == 1
    assert diversity(found).per_user == (0.0, 0.0, 0.0)


def test_only_texts_have_topics() -> None:
    run = run_on(*TEA, *CARS)
    run = replace(run, task=replace(run.task, kind="rating"))
    assert answer(run, train(run), "validation", generate=True, topics=True).topics == 0


def test_vectors_with_nothing_in_common_but_a_mean_are_told_apart_by_direction() -> None:
    class Shifted(Recorder):
        """Texts lie at 1000 and a little: `a` above, `b` below."""

        def embed(self, texts: Sequence[str]) -> torch.Tensor:
            return torch.tensor([[1000.0 + text.count("a") - text.count("b")] for text in texts])

    run = replace(run_on("a", "aa", "b", "bb"), trainer=Shifted())
    found, count = topics_of(run, ["aaaa", "a", "b", "bbbb"])
    assert count == 2
    assert found[0] == found[1] != found[2]
    assert found[2] == found[3]
