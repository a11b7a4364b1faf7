from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milp_search.adapters.text_embedding import Embed, text_embedding
from milp_search.core.records import Interaction, UserTask
from milp_search.personalize.communities import communities, periods, profile_vectors
from personalize.making import Recorder

POINTS = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=8).map(
    lambda rows: np.array(rows, dtype=float)
)


def user(name: str, *pairs: tuple[str, str]) -> UserTask:
    return UserTask(name, tuple(Interaction(name, q, r) for q, r in pairs), (), ())


def embedding() -> Embed:
    return text_embedding(Recorder())


def test_a_profile_vector_is_the_centred_normalised_mean_of_query_and_response() -> None:
    """The recorder embeds a text as its counts of a to h; here a (of q) and b (of r) matter."""
    users = [user("u", ("aa", "b"), ("", "bbb")), user("v", ("a", "")), user("w", ("", "b"))]
    vectors = profile_vectors(users, embedding())
    # Means (a of q, b of r): (1, 2), (1, 0), (0, 1); their mean is (2/3, 1).
    expected = np.array([[1 / 3, 1], [1 / 3, -1], [-2 / 3, 0]])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert vectors.shape == (3, 16)
    np.testing.assert_allclose(vectors[:, [0, 9]], expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_users_who_write_alike_have_no_profile_to_tell_them_apart() -> None:
    vectors = profile_vectors([user("u", ("a", "b")), user("v", ("a", "b"))], embedding())
    assert not vectors.any()


@given(vectors=POINTS, count=st.integers(1, 10), seed=st.integers(0, 9))
def test_every_user_is_in_exactly_one_community(vectors: np.ndarray, count: int, seed: int) -> None:
    groups = communities(vectors, count, seed)
    assert sorted(place for group in groups for place in group) == list(range(len(vectors)))
    assert all(groups)
    assert len(groups) <= min(count, len(vectors))


@given(vectors=POINTS, count=st.integers(1, 10), seed=st.integers(0, 9))
def test_communities_are_a_function_of_vectors_count_and_seed(
    vectors: np.ndarray, count: int, seed: int
) -> None:
    assert communities(vectors, count, seed) == communities(vectors.copy(), count, seed)


def test_clear_clusters_are_found() -> None:
    vectors = np.array([[0.0, 1], [1, 0], [0.1, 1], [1, 0.1]])
    assert sorted(communities(vectors, 2, 0)) == [[0, 2], [1, 3]]


def test_more_communities_than_users_give_one_each() -> None:
    vectors = np.eye(3)
    assert sorted(communities(vectors, 20, 0)) == [[0], [1], [2]]


def test_equal_users_share_a_community_however_many_are_asked_for() -> None:
    assert communities(np.zeros((3, 2)), 3, 0) == [[0, 1, 2]]


# --- periods --------------------------------------------------------------------------------


def at(user: str, *times: float | None) -> list[Interaction]:
    return [Interaction(user, f"{user}{n}", "r", time) for n, time in enumerate(times)]


def names(cuts: list[list[Interaction]]) -> list[list[str]]:
    return [[item.query for item in cut] for cut in cuts]


def test_dated_histories_are_pooled_by_time() -> None:
    cuts = periods([at("a", 1, 5, 9), at("b", 2, 3)], 2)
    assert names(cuts) == [["a0", "b0", "b1"], ["a1", "a2"]]


def test_undated_histories_are_pooled_by_their_relative_place() -> None:
    # Places a: 0, 1/2; b: 0, 1/4, 2/4, 3/4.
    cuts = periods([at("a", None, None), at("b", *[None] * 4)], 3)
    assert names(cuts) == [["a0", "b0"], ["b1", "a1"], ["b2", "b3"]]


def test_one_missing_date_makes_the_whole_pool_undated() -> None:
    cuts = periods([at("a", 100, 200), at("b", 1, None)], 2)
    assert names(cuts) == [["a0", "b0"], ["a1", "b1"]]


def test_more_periods_than_items_leave_no_empty_ones() -> None:
    assert names(periods([at("a", 1, 2)], 5)) == [["a0"], ["a1"]]


@given(
    histories=st.lists(
        st.lists(st.integers(0, 50), min_size=1).map(sorted), min_size=1, max_size=5
    ),
    count=st.integers(1, 12),
)
def test_periods_partition_the_pool_in_order_of_time(
    histories: list[list[int]], count: int
) -> None:
    pooled = [at(str(n), *map(float, times)) for n, times in enumerate(histories)]
    cuts = periods(pooled, count)
    items = [item for cut in cuts for item in cut]
    assert sorted(names([items])[0]) == sorted(item.query for one in pooled for item in one)
    times = [item.time or 0.0 for item in items]
    assert times == sorted(times)
    sizes = [len(cut) for cut in cuts]
    assert len(sizes) == min(count, len(items))
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("count", [1, 3])
def test_a_user_keeps_their_own_order_among_equal_times(count: int) -> None:
    cuts = periods([at("a", 1, 1, 1), at("b", 1, 1)], count)
    items = [item.query for cut in cuts for item in cut]
    assert [name for name in items if name[0] == "a"] == ["a0", "a1", "a2"]
    assert [name for name in items if name[0] == "b"] == ["b0", "b1"]
