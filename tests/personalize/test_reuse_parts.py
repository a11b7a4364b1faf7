"""Profiles, communities and retrieved items, with a cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milp_search.adapters.stage_cache import StageCache
from milp_search.adapters.text_embedding import text_embedding
from milp_search.core.records import Interaction, PersonalizationTask, UserTask
from milp_search.personalize.communities import communities, profile_vectors
from milp_search.personalize.retrieval import held_out_examples, training_examples
from milp_search.personalize.reuse import (
    run_communities,
    run_held_out_examples,
    run_profile_vectors,
    run_training_examples,
)
from personalize.cached import cached, lookups
from personalize.making import SETTINGS, Recorder, plan, run_of, task

LINES = st.lists(st.sampled_from("abcd"), min_size=1, max_size=4).map(" ".join)
USERS = st.lists(
    st.tuples(st.lists(LINES, max_size=20), st.lists(LINES, max_size=2)), min_size=1, max_size=3
)


@given(users=USERS, asked=st.lists(st.integers(0, 20), min_size=1, max_size=4))
def test_examples_are_those_of_each_user_alone_whatever_was_asked_before(
    tmp_path_factory: pytest.TempPathFactory,
    users: list[tuple[list[str], list[str]]],
    asked: list[int],
) -> None:
    def items(texts: list[str]) -> tuple[Interaction, ...]:
        return tuple(Interaction("u", text, "x") for text in texts)

    targets = tuple(
        UserTask(str(n), items(history), items(queries), ())
        for n, (history, queries) in enumerate(users)
    )
    run = replace(
        run_of(plan("milp"), Recorder()),
        task=PersonalizationTask("t", "text", targets),
        cache=StageCache(tmp_path_factory.mktemp("cache")),
    )
    queries = tuple(user.validation for user in targets)
    for k in asked:
        one = replace(run, plan=replace(run.plan, retrieved_items=k))
        assert run_training_examples(one) == [training_examples(u.history, k) for u in targets]
        assert run_held_out_examples(one, queries) == [
            held_out_examples(user.history, user.validation, k) for user in targets
        ]


def test_every_k_to_16_is_served_by_one_ranking(tmp_path: Path) -> None:
    for k in (1, 16, 0, 17):
        run = cached(tmp_path, retrieved_items=k)
        run_training_examples(run)
        looked_up = {1: (0, 1), 16: (1, 0), 17: (0, 1)}
        assert lookups(run) == ({"retrieval": looked_up[k]} if k else {})


def test_other_queries_or_another_history_are_ranked_anew(tmp_path: Path) -> None:
    users = task().targets
    longer = replace(users[0], history=(*users[0].history, Interaction("anna", "tea", "x")))
    queries = tuple(user.validation for user in users)
    run_held_out_examples(cached(tmp_path), queries)
    for targets, asked in (
        (users, tuple(user.test for user in users)),
        ((longer, *users[1:]), queries),
    ):
        run = cached(tmp_path)
        run = replace(run, task=replace(run.task, targets=targets))
        run_held_out_examples(run, asked)
        assert lookups(run) == {"retrieval": (0, 1)}


def test_profile_vectors_of_another_base_or_length_are_computed_anew(tmp_path: Path) -> None:
    for _ in range(2):
        run = cached(tmp_path)
        vectors = run_profile_vectors(run)
        plain = profile_vectors(run.task.targets, text_embedding(run.trainer))
        assert vectors.tobytes() == plain.tobytes()
    run = replace(cached(tmp_path), base_fingerprint="other")
    run_profile_vectors(run)
    assert lookups(run)["profile_vectors"] == (0, 1)
    run = cached(tmp_path)
    run.trainer.settings = replace(SETTINGS, max_length=9)
    run_profile_vectors(run)
    assert lookups(run)["profile_vectors"] == (0, 1)


def test_without_the_bases_name_no_profile_vectors_are_kept(tmp_path: Path) -> None:
    run = replace(cached(tmp_path), base_fingerprint="")
    run_profile_vectors(run)
    assert [*lookups(run)] == ["embeddings"]


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_communities_come_back_as_they_were_found(tmp_path: Path, count: int) -> None:
    expected = None
    for hits in ((0, 1), (1, 0)):
        run = cached(tmp_path, communities=count)
        vectors = run_profile_vectors(run)
        expected = expected or communities(vectors, count, run.seed)
        assert run_communities(run, vectors) == expected
        assert lookups(run)["communities"] == hits


@pytest.mark.parametrize("change", ["count", "seed", "vectors"])
def test_another_count_seed_or_vector_is_clustered_anew(tmp_path: Path, change: str) -> None:
    run = cached(tmp_path, communities=2)
    vectors = run_profile_vectors(run)
    run_communities(run, vectors)
    other = cached(tmp_path, communities=3 if change == "count" else 2, seed=int(change == "seed"))
    run_communities(other, -vectors if change == "vectors" else vectors)
    assert lookups(other) == {"communities": (0, 1)}
