from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milp_search.core.arm import Arm
from milp_search.core.errors import MeasurementError, SpecError
from milp_search.core.trial import Direction, Measurement, Objective, Trial, TrialStatus
from milp_search.search.pareto import front, hypervolume, non_dominated, objective_values

LOSS = Objective("loss", "minimize", 4.0)
ROUGE = Objective("rouge_l", "maximize", 0.0)


def grid_volume(points: list[tuple[int, ...]], objectives: list[Objective]) -> int:
    """Counts the unit cells between points and reference, all being whole numbers."""
    signs = [1 if one.direction == "maximize" else -1 for one in objectives]
    raised = [[s * v for s, v in zip(signs, point, strict=True)] for point in points]
    low = [int(s * (one.reference or 0)) for s, one in zip(signs, objectives, strict=True)]
    cells = itertools.product(*(range(start, 12) for start in low))
    return sum(
        any(all(corner < value for corner, value in zip(cell, p, strict=True)) for p in raised)
        for cell in cells
    )


def test_two_points_cover_the_union_of_their_rectangles() -> None:
    # Below loss 4: 2 x 2 and 1 x 3 share 1 x 2.
    assert hypervolume(np.array([[2.0, 2.0], [3.0, 3.0]]), [LOSS, ROUGE]) == pytest.approx(5.0)


def test_no_points_have_no_volume() -> None:
    assert hypervolume(np.empty((0, 2)), [LOSS, ROUGE]) == 0.0


def test_a_point_worse_than_the_reference_adds_nothing() -> None:
    values = np.array([[2.0, 2.0], [5.0, 100.0], [4.0, 50.0]])
    assert hypervolume(values, [LOSS, ROUGE]) == pytest.approx(4.0)


def test_one_objective_has_the_length_from_reference_to_best() -> None:
    assert hypervolume(np.array([[3.0], [1.5]]), [LOSS]) == pytest.approx(2.5)


def test_hypervolume_wants_a_reference() -> None:
    with pytest.raises(SpecError, match="rouge_l"):
        hypervolume(np.zeros((1, 1)), [Objective("rouge_l", "maximize")])


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(MeasurementError, match="finite"):
        hypervolume(np.array([[np.nan, 1.0]]), [LOSS, ROUGE])


@settings(max_examples=40, deadline=None)
@given(data=st.data(), m=st.integers(2, 4))
def test_hypervolume_counts_grid_cells_in_any_order(data: st.DataObject, m: int) -> None:
    directions: list[Direction] = ["minimize", "maximize"]
    objectives = [Objective(f"m{k}", data.draw(st.sampled_from(directions)), 0.0) for k in range(m)]
    coordinate = st.integers(-5, 5)
    points = data.draw(st.lists(st.tuples(*[coordinate] * m), max_size=6))
    shuffled = data.draw(st.permutations(points))
    volume = hypervolume(np.array(shuffled, dtype=float).reshape(-1, m), objectives)
    assert volume == pytest.approx(grid_volume(points, objectives))


def test_non_dominated_keeps_trade_offs_and_equals() -> None:
    values = np.array([[1.0, 1.0], [2.0, 3.0], [2.0, 2.0], [1.0, 1.0], [0.5, 0.0]])
    mask = non_dominated(values, [LOSS, ROUGE])
    assert mask.tolist() == [True, True, False, True, True]


def trial(index: int, loss: float, rouge: float, status: TrialStatus) -> Trial:
    values = {"loss": Measurement(loss), "rouge_l": Measurement(rouge)}
    return Trial(index, Arm({}), status=status, measurements=values)


@given(data=st.data(), m=st.integers(1, 4))
def test_non_dominated_is_what_comparing_all_pairs_says(data: st.DataObject, m: int) -> None:
    row = st.tuples(*[st.integers(-2, 2)] * m)
    values = np.array(data.draw(st.lists(row, max_size=12)), float).reshape(-1, m)
    goals = [
        Objective(str(n), data.draw(st.sampled_from(["minimize", "maximize"]))) for n in range(m)
    ]
    signs = np.array([1.0 if one.direction == "maximize" else -1.0 for one in goals])
    points = [tuple(one) for one in values * signs]
    expected = [
        not any(other != one and all(o >= v for o, v in zip(other, one, strict=True))
                for other in points)
        for one in points
    ]  # fmt: skip
    assert non_dominated(values, goals).tolist() == expected


def test_a_hundred_thousand_points_are_as_quickly_told_apart_as_the_front_is_short() -> None:
    # All pairs of so many would not fit into memory. The front is the circle's upper quarter.
    angle = np.linspace(0, np.pi / 2, 20)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    inside = np.concatenate([circle * share for share in np.linspace(0.1, 0.9, 5000)])
    goals = [Objective("x", "maximize"), Objective("y", "maximize")]
    mask = non_dominated(np.concatenate([inside, circle]), goals)
    assert np.flatnonzero(mask).tolist() == [*range(100_000, 100_020)]


def test_the_front_has_completed_trials_only_by_index() -> None:
    done = TrialStatus.COMPLETED
    trials = [
        trial(3, 2.0, 3.0, done),
        trial(0, 1.0, 1.0, done),
        trial(1, 0.1, 9.0, TrialStatus.RUNNING),
        trial(2, 2.0, 2.0, done),
    ]
    assert [one.index for one in front(trials, [LOSS, ROUGE])] == [0, 3]


def test_an_empty_study_has_an_empty_front() -> None:
    assert front([], [LOSS, ROUGE]) == []


def test_a_missing_metric_is_named() -> None:
    with pytest.raises(MeasurementError, match="rouge_l"):
        objective_values([Trial(0, Arm({}), measurements={"loss": Measurement(1.0)})], [ROUGE])
