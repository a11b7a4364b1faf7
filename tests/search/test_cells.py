from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milp_search.search.cells import Cells, undominated, undominated_cells


def front_of(points: np.ndarray) -> np.ndarray:
    return np.unique(points[undominated(points[None])[0]], axis=0)


def covering(cells: Cells, points: np.ndarray) -> np.ndarray:
    """How many boxes hold each point."""
    levels = np.hstack([cells.levels, np.full((len(cells.levels), 1), np.inf)])
    low = np.take_along_axis(levels, cells.lower, 1)
    high = np.take_along_axis(levels, cells.upper, 1)
    inside = (points[..., None] >= low) & (points[..., None] < high)
    return np.asarray(inside.all(axis=1).sum(axis=1))


@settings(max_examples=60, deadline=None)
@given(
    objectives=st.integers(1, 4),
    count=st.integers(0, 9),
    places=st.sampled_from([3, 1000]),
    seed=st.integers(0, 10_000),
)
def test_boxes_cover_what_no_point_dominates_once_and_nothing_else(
    objectives: int, count: int, places: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    # With few places many coordinates are equal.
    points = rng.integers(1, places, size=(count, objectives)).astype(float)
    front = front_of(points) if count else points
    cells = undominated_cells(front, np.zeros(objectives))
    probes = rng.uniform(0, places * 1.2, size=(300, objectives))
    dominated = np.asarray((front[None] >= probes[:, None]).all(axis=-1)).any(axis=1)
    assert (covering(cells, probes) == ~dominated).all()


def test_the_reference_alone_leaves_one_box() -> None:
    cells = undominated_cells(np.empty((0, 3)), np.array([1.0, 2.0, 3.0]))
    assert cells.levels.tolist() == [[1.0], [2.0], [3.0]]
    assert cells.lower.tolist() == [[0], [0], [0]]
    assert cells.upper.tolist() == [[1], [1], [1]]


@pytest.mark.parametrize(("objectives", "boxes"), [(1, 1), (2, 11), (3, 21)])
def test_up_to_three_objectives_need_few_boxes(objectives: int, boxes: int) -> None:
    points = np.random.default_rng(0).dirichlet(np.ones(objectives), 10)
    front = points[:1] if objectives == 1 else points
    cells = undominated_cells(front, np.zeros(objectives))
    assert cells.lower.shape[1] <= boxes


def test_equal_points_are_all_on_the_front() -> None:
    points = np.array([[[1.0, 1.0], [1.0, 1.0], [0.5, 1.0]]])
    assert undominated(points).tolist() == [[True, True, False]]


def test_each_set_has_its_own_front() -> None:
    sets = np.array([*itertools.permutations([[2.0, 2.0], [1.0, 3.0], [1.0, 1.0]])])
    assert undominated(sets).sum(axis=1).tolist() == [2] * 6
    assert (sets[~undominated(sets)] == 1.0).all()
